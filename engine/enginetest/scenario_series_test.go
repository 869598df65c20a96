package enginetest_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"hash/fnv"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// sharedData finds a file of recorded data beside the module, or skips the test.
func sharedData(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		t.Fatal("cannot find go.mod above the test")
	}
	path := filepath.Join(dir, "..", "shared", "data", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the recorded data is not here: %v", err)
	}
	return path
}

// coin is one row of the CoinLore series.
type coin struct {
	Symbol    string      `json:"symbol"`
	Name      string      `json:"name"`
	Price     json.Number `json:"price_usd"`
	Change1h  json.Number `json:"percent_change_1h"`
	Change24h json.Number `json:"percent_change_24h"`
	Change7d  json.Number `json:"percent_change_7d"`
	Rank      uint32      `json:"rank"`
	Cap       json.Number `json:"market_cap_usd"`
	Volume    json.Number `json:"volume_24h"`
}

const seriesGap = 936 * market.Second // the recording's median gap, 15.6 min

// coinlore reads the whole series into batches, symbols resolved to ids of
// their own.
func coinlore(t testing.TB) []*market.Batch {
	t.Helper()
	f, err := os.Open(sharedData(t, "series/coinlore_27coins_2025-10-31_2025-11-30.jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	infos := map[string]*market.Info{}
	var batches []*market.Batch
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var poll struct {
			Time  time.Time `json:"last_updated"`
			Coins []coin    `json:"coins"`
		}
		if err := json.Unmarshal(lines.Bytes(), &poll); err != nil {
			t.Fatal(err)
		}
		at := market.TimeOf(poll.Time)
		b := &market.Batch{
			Source: market.SourceCoinLore, ReceivedAt: at, Cadence: seriesGap, Position: uint64(len(batches) + 1),
			Quotes: make([]market.Quote, 0, len(poll.Coins)),
		}
		for i := range poll.Coins {
			b.Quotes = append(b.Quotes, poll.Coins[i].quote(t, at, infos))
		}
		batches = append(batches, b)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return batches
}

func symbolID(symbol string) market.ID {
	h := fnv.New32a()
	h.Write([]byte(symbol))
	return market.ID(1<<31 | h.Sum32()>>1)
}

func (c *coin) quote(t testing.TB, at market.Time, infos map[string]*market.Info) market.Quote {
	info := infos[c.Symbol]
	if info == nil {
		info = &market.Info{Symbol: c.Symbol, Name: c.Name}
		infos[c.Symbol] = info
	}
	return market.Quote{
		ID: symbolID(c.Symbol), Info: info, SourceTime: at, Flags: market.FlagUnmappedID,
		Has: market.MaskOf(market.FieldPrice, market.FieldMarketCap, market.FieldVolume24h, market.FieldPercentChange1h,
			market.FieldPercentChange24h, market.FieldPercentChange7d, market.FieldRank),
		Price: number(t, c.Price), MarketCap: number(t, c.Cap), Volume24h: number(t, c.Volume),
		PercentChange1h: number(t, c.Change1h), PercentChange24h: number(t, c.Change24h), PercentChange7d: number(t, c.Change7d),
		CirculatingSupply: market.Null, TotalSupply: market.Null, MaxSupply: market.Null, FullyDiluted: market.Null,
		Dominance: market.Null, SelfReportedCap: market.Null, SelfReportedSupply: market.Null, Rank: c.Rank,
	}
}

func number(t testing.TB, n json.Number) market.Decimal {
	t.Helper()
	if n == "" {
		return market.Null
	}
	d, _, err := market.ParseDecimal([]byte(n))
	if err != nil {
		t.Fatalf("cannot parse %q: %v", n, err)
	}
	return d
}
