package recording_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/upstream/recording"
)

func recorded(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
	path := filepath.Join(dir, "..", "shared", "data", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("recorded data is not here: %s", name)
	}
	return path
}

func write(t testing.TB, name, text string) string {
	t.Helper()
	data := []byte(text)
	if strings.HasSuffix(name, ".gz") {
		var b bytes.Buffer
		zw := gzip.NewWriter(&b)
		_, _ = zw.Write(data)
		_ = zw.Close()
		data = b.Bytes()
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, path string) *recording.Recording {
	t.Helper()
	r, err := recording.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func all(t testing.TB, r interface{ Next() (*market.Batch, error) }) (polls []*market.Batch) {
	t.Helper()
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return polls
		}
		if err != nil {
			t.Fatal(err)
		}
		polls = append(polls, b)
	}
}

const (
	lore = `{"commit":"c","commit_ts":1,"last_updated":"2025-10-31T16:36:28.443Z","source":"coinlore","version":"1.0.0","coins":[` +
		`{"symbol":"BTC","name":"Bitcoin","price_usd":110085.79,"percent_change_24h":1.86,"percent_change_1h":-0.38,"percent_change_7d":0,"rank":1,"market_cap_usd":0,"volume_24h":null},` +
		`{"symbol":"NOSUCH","name":"No Such - Coin (X)","price_usd":1.1234567890123456789,"rank":null}]}`
	top  = `{"generated_at":"2026-06-24T11:26:58.693733+02:00","kaynak":"CoinMarketCap","coins":[{"symbol":"BTC","name":"Bitcoin","rank":1,"price_usd":1,"market_cap_usd":2,"spot_volume_24h_usd":3,"percent_change_7d":-4}]}`
	list = `{"status":{"timestamp":"2021-06-29T00:23:45.130Z","error_code":0},"data":[{"id":1,"symbol":"BTC","name":"B","slug":"b",` +
		`"last_updated":"2021-06-29T00:23:02.000Z","quote":{"USD":{"price":5}}}]}`
)

func poll(at, coins string) string {
	return `{"last_updated":"` + at + `","coins":[` + coins + `]}` + "\n"
}

// What a recording of one poll holds, in one line.
func TestFormats(t *testing.T) {
	f := func(name, text, want string) {
		t.Helper()
		r := open(t, write(t, name, text))
		b, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		out := fmt.Sprintf("%v %s #%d/%d %d", b.Source, b.ReceivedAt.AppendRFC3339(nil), b.Position, r.Len(), b.Cadence)
		for _, q := range b.Quotes {
			out += fmt.Sprintf(" | %d %s/%s/%s %v %v %v %d %s", q.ID, q.Info.Symbol, q.Info.Name, q.Info.Slug,
				q.Price, q.MarketCap, q.Volume24h, q.Flags, q.SourceTime.AppendRFC3339(nil))
		}
		if out != want {
			t.Errorf("%s:\n\tgot  %s\n\twant %s", name, out, want)
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v after the only poll, want EOF", name, err)
		}
	}
	flags := market.FlagUnmappedID | market.FlagRounded
	wantLore := fmt.Sprintf("coinlore 2025-10-31T16:36:28.443Z #1/1 60000 | 1 BTC/Bitcoin/bitcoin 110085.79 0 null 0 2025-10-31T16:36:28.443Z"+
		" | %d NOSUCH/No Such - Coin (X)/no-such-coin-x 1.12345678901234568 null null %d 2025-10-31T16:36:28.443Z", recording.UnmappedID("NOSUCH"), flags)
	wantTop := "coinmarketcap 2026-06-24T09:26:58.693Z #1/1 60000 | 1 BTC/Bitcoin/bitcoin 1 2 3 0 2026-06-24T09:26:58.693Z"
	wantList := "coinmarketcap 2021-06-29T00:23:45.130Z #1/1 60000 | 1 BTC/B/b 5 null null 0 2021-06-29T00:23:02.000Z"
	f("a.jsonl", lore, wantLore)
	f("a.jsonl.gz", lore+"\n\n", wantLore)
	f("b.jsonl", top+"\n", wantTop)
	f("c.json", list, wantList)
	f("c.json.gz", list, wantList)
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, []byte(list), "", "  "); err != nil {
		t.Fatal(err)
	}
	f("d.json", pretty.String(), wantList)
	f("e.json", `[{"id":"1","symbol":"BTC","name":"B","slug":"b","last_updated":"2021-06-29T00:23:02.000Z","quote":{"USD":{"price":"5"}}}]`,
		"coinmarketcap 2021-06-29T00:23:02.000Z #1/1 60000 | 1 BTC/B/b 5 null null 0 2021-06-29T00:23:02.000Z")
}

func TestNullZeroMissing(t *testing.T) {
	b, err := open(t, write(t, "a.jsonl", lore)).Next()
	if err != nil {
		t.Fatal(err)
	}
	f := func(row int, field market.Field, has bool, got market.Decimal, want string) {
		t.Helper()
		if b.Quotes[row].Has.Has(field) != has || got.String() != want {
			t.Errorf("row %d: %v is %v, has %v; want %s, %v", row, field, got, b.Quotes[row].Has.Has(field), want, has)
		}
	}
	f(0, market.FieldMarketCap, true, b.Quotes[0].MarketCap, "0")
	f(0, market.FieldVolume24h, true, b.Quotes[0].Volume24h, "null")
	f(1, market.FieldVolume24h, false, b.Quotes[1].Volume24h, "null")
	f(0, market.FieldPercentChange7d, true, b.Quotes[0].PercentChange7d, "0")
	f(0, market.FieldTotalSupply, false, b.Quotes[0].TotalSupply, "null")
}

func TestRefused(t *testing.T) {
	f := func(text, line, what string) {
		t.Helper()
		for _, name := range []string{"bad.jsonl", "bad.jsonl.gz"} {
			path := write(t, name, text)
			r, err := recording.Open(path)
			if err == nil {
				_ = r.Close()
				t.Errorf("%.60q was opened", text)
				continue
			}
			if m := err.Error(); !strings.Contains(m, path) || !strings.Contains(m, line) || !strings.Contains(m, what) {
				t.Errorf("%.60q: %s; want %s, %s", text, m, line, what)
			}
		}
	}
	good := poll("2025-01-01T00:00:00Z", `{"symbol":"BTC","price_usd":1}`)
	f("", "", "no poll")
	f("\n\n", "", "no poll")
	f("hello\n", "line 1", "unexpected 'h'")
	f("<html>\n</html>", "line 1", "unexpected '<'")
	f(good+"{\"last_updated\":", "line 2", "unexpected end")
	f(good+good[:40]+"\n"+good, "line 2", "unexpected end")
	f(good+"\n"+poll("yesterday", ""), "line 3", "not an instant")
	f(good+poll("2025-01-01T00:01:00Z", `{"symbol":"BTC","price_usd":"1"}`), "line 2", "price is not a number")
	f(good+poll("2025-01-01T00:01:00Z", `{"symbol":"BTC","price_usd":1e999}`), "line 2", "price is out of range")
	f(good+poll("2025-01-01T00:01:00Z", `{"symbol":"BTC","price_usd":1,"price_usd":2}`), "line 2", "price comes twice")
	f(good+poll("2025-01-01T00:01:00Z", `{"price_usd":1}`), "line 2", "no symbol")
	f(good+`{"coins":[]}`, "line 2", "no time")
	f(`{"hello":1}`, "line 1", "neither a listings answer")
	f(`{"status":{"timestamp":"2021-06-29T00:23:45.130Z","error_code":1010}}`, "line 1", "code 1010")
	f("{\n\"data\": [\n NaN ]}", "line 3", "unexpected 'N'")
	f(good+strings.Repeat(" ", 65<<20), "line 2", "longer than 64 MiB")
	f(good+"\xff\n", "line 2", "invalid UTF-8")
	if _, err := recording.Open(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
	if _, err := recording.Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("a folder: %v", err)
	}
	whole, _ := os.ReadFile(write(t, "cut.jsonl.gz", strings.Repeat(good, 100)))
	if _, err := recording.Open(write(t, "cut.jsonl", string(whole[:len(whole)-12]))); err == nil || !strings.Contains(err.Error(), "ends early") || !strings.Contains(err.Error(), "line ") {
		t.Errorf("a cut gzip file: %v", err)
	}
	if _, err := recording.Open(write(t, "cut.jsonl", string(whole[:5]))); err == nil || !strings.Contains(err.Error(), "ends early") {
		t.Errorf("a gzip file of 5 bytes: %v", err)
	}
}

func TestOrderAndSeek(t *testing.T) {
	text := poll("2025-01-01T00:00:00Z", `{"symbol":"A","price_usd":1}`) +
		poll("2025-01-01T00:01:00Z", `{"symbol":"A","price_usd":2},{"symbol":"A","price_usd":9}`) +
		poll("2025-01-01T00:00:30Z", `{"symbol":"A","price_usd":3}`) +
		poll("2025-01-01T00:01:00Z", `{"symbol":"A","price_usd":4}`) +
		poll("2025-01-01T00:03:00Z", `{"symbol":"A","price_usd":5}`) +
		poll("2025-01-01T00:04:40Z", `{"symbol":"A","price_usd":6}`)
	r := open(t, write(t, "a.jsonl.gz", text))
	f := func(what string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	next := func(src interface{ Next() (*market.Batch, error) }) string {
		t.Helper()
		b, err := src.Next()
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%d %v %d %s", b.Position, b.Quotes[0].Price, len(b.Quotes), b.ReceivedAt.Std().Format("15:04:05"))
	}
	first, last := r.Span()
	f("len", r.Len(), 4)
	f("cadence", r.Cadence(), 100*market.Second)
	f("span", last.Sub(first), 280*market.Second)
	f("period", r.Period(), 380*market.Second)
	f("next", next(r), "1 1 1 00:00:00")
	f("next", next(r), "2 2 1 00:01:00")
	f("next", next(r), "3 5 1 00:03:00")
	f("skipped", r.Skipped(), 2)
	f("next", next(r), "4 6 1 00:04:40")
	f("next", next(r), "EOF")
	f("next", next(r), "EOF")
	f("seek", r.Seek(1), nil)
	f("next", next(r), "2 2 1 00:01:00")
	f("seek", r.Seek(3), nil)
	f("next", next(r), "4 6 1 00:04:40")
	f("seek to the end", r.Seek(4), nil)
	f("next", next(r), "EOF")
	f("seek", r.Seek(0), nil)
	f("next", next(r), "1 1 1 00:00:00")
	f("seek beyond", r.Seek(5) != nil, true)

	l := recording.NewLoop(r)
	f("seek", l.Seek(3), nil)
	f("loop", next(l), "4 6 1 00:04:40")
	f("loop", next(l), "5 1 1 00:06:20")
	f("seek", l.Seek(9), nil)
	f("loop", next(l), "10 2 1 00:13:40")
}

func TestHash(t *testing.T) {
	text := poll("2025-01-01T00:00:00Z", `{"symbol":"A"}`)
	plain, packed := open(t, write(t, "a.jsonl", text)), open(t, write(t, "a.jsonl.gz", text))
	other := open(t, write(t, "a.jsonl", text+"\n"))
	if plain.Hash() != packed.Hash() || plain.FileHash() == packed.FileHash() || plain.Hash() == other.Hash() || len(plain.Hash()) != 64 {
		t.Error("the hash is not that of the content")
	}
}

func TestCoinlore(t *testing.T) {
	r := open(t, recorded(t, "series/coinlore_27coins_2025-10-31_2025-11-30.jsonl.gz"))
	polls := all(t, r)
	rows := 0
	for i, b := range polls {
		rows += len(b.Quotes)
		if b.Position != uint64(i+1) || b.Source != market.SourceCoinLore {
			t.Fatalf("poll %d: position %d, source %v", i+1, b.Position, b.Source)
		}
	}
	if len(polls) != 2593 || rows != 69_455 || r.Skipped() != 0 || r.Cadence() != 937_350 {
		t.Errorf("%d polls, %d rows, %d skipped, cadence %d", len(polls), rows, r.Skipped(), r.Cadence())
	}
	bad := polls[128]
	zero, null := 0, 0
	for i := range bad.Quotes {
		q := &bad.Quotes[i]
		if q.Price == (market.Decimal{}) && q.MarketCap == (market.Decimal{}) && q.Has.Has(market.FieldPrice) {
			zero++
		}
		if q.Volume24h.IsNull() && q.Has.Has(market.FieldVolume24h) {
			null++
		}
	}
	if at := string(bad.ReceivedAt.AppendRFC3339(nil)); at != "2025-11-02T00:48:48.602Z" || len(bad.Quotes) != 26 || zero != 26 || null != 26 {
		t.Errorf("the poisoned poll: %s, %d zero, %d null", at, zero, null)
	}
	if polls[0].Quotes[0].Info != polls[2592].Quotes[0].Info {
		t.Error("names were made anew for every poll")
	}
}

func TestTopN(t *testing.T) {
	r := open(t, recorded(t, "series/cmc_topN_2026-06-24_2026-08-06.jsonl.gz"))
	rows, unmapped := 0, map[string]bool{}
	for _, b := range all(t, r) {
		rows += len(b.Quotes)
		for i := range b.Quotes {
			if q := &b.Quotes[i]; q.Flags&market.FlagUnmappedID != 0 {
				unmapped[q.Info.Symbol] = true
			}
		}
	}
	if r.Len() != 75 || rows != 7610 || len(unmapped) > 60 {
		t.Errorf("%d polls, %d rows, %d symbols without id: %v", r.Len(), rows, len(unmapped), unmapped)
	}
}

func TestSymbolTable(t *testing.T) {
	f := func(symbol string, id market.ID, slug string) {
		t.Helper()
		b, err := open(t, write(t, "a.jsonl", poll("2025-01-01T00:00:00Z", `{"symbol":"`+symbol+`"}`))).Next()
		if err != nil || b.Quotes[0].ID != id || b.Quotes[0].Info.Slug != slug || b.Quotes[0].Flags != 0 {
			t.Errorf("%s: %+v, %v; want %d, %s", symbol, b.Quotes[0], err, id, slug)
		}
	}
	f("BTC", 1, "bitcoin")
	f("ETH", 1027, "ethereum")
	f("USDT", 825, "tether")
	f("XRP", 52, "xrp")
	f("SOL", 5426, "solana")
	f("DOGE", 74, "dogecoin")
	f("XAUT", 5176, "tether-gold")
	f("HYPE", 32196, "hyperliquid")
	if got := recording.UnmappedID(""); got != 1<<31|0x811c9dc5&0x7fffffff {
		t.Errorf("the hash of nothing is %#x, want FNV's offset basis", got)
	}
}

// The floor is decompressing the file twice and nothing else: Open reads it
// all once to check it, Next a second time.
func BenchmarkSeries(b *testing.B) {
	path := recorded(b, "series/coinlore_27coins_2025-10-31_2025-11-30.jsonl.gz")
	b.ReportAllocs()
	for b.Loop() {
		r, err := recording.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		all(b, r)
		_ = r.Close()
	}
	perOp := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
	began := time.Now()
	for range 2 {
		file, _ := os.Open(path)
		zr, err := gzip.NewReader(file)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, zr)
		_ = file.Close()
	}
	b.ReportMetric(perOp/float64(time.Since(began).Nanoseconds()), "xfloor")
}
