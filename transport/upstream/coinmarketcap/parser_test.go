package coinmarketcap_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/upstream/coinmarketcap"
)

// recorded returns a recorded answer, or skips where recordings are absent.
func recorded(t testing.TB, name string) []byte {
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
	data, err := os.ReadFile(filepath.Join(dir, "..", "shared", "data", name))
	if err != nil {
		t.Skipf("recorded data is not here: %s", name)
	}
	if strings.HasSuffix(name, ".gz") {
		zr, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if data, err = io.ReadAll(zr); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

const (
	okStatus = `"status":{"timestamp":"2026-11-20T18:00:30.000Z","error_code":0,"error_message":null,"elapsed":8,"credit_count":1}`
	received = market.Time(1_795_197_631_000)
)

func envelope(data string) string { return `{` + okStatus + `,"data":` + data + `}` }

// row returns a v1 coin; members replace or add to those of its quote.
func row(id int, quote string) string {
	return fmt.Sprintf(`{"id":%d,"name":"N%d","symbol":"S%d","slug":"n-%d","cmc_rank":%d,"last_updated":"2026-11-20T18:00:00.000Z","quote":{"USD":{%s}}}`,
		id, id, id, id, id, quote)
}

func parse(text string) ([]market.Quote, coinmarketcap.Answer, error) {
	p := coinmarketcap.NewParser()
	p.Begin()
	return p.Parse([]byte(text), nil, received)
}

func TestFields(t *testing.T) {
	text := envelope(`[{"id":1,"name":"Bitcoin","symbol":"BTC","slug":"bitcoin","cmc_rank":1,"num_market_pairs":9,
		"tags":["a",{"b":[1]}],"max_supply":21000000,"circulating_supply":19755334.5,"total_supply":null,
		"self_reported_market_cap":5,"self_reported_circulating_supply":"7","platform":null,"last_updated":"2026-11-20T17:59:00.000Z",
		"quote":{"EUR":{"price":1},"USD":{"price":61137.27250669717,"volume_24h":0,"market_cap":null,"percent_change_1h":-1.5,
		"percent_change_24h":2e1,"percent_change_7d":0.25,"market_cap_dominance":57.27,"fully_diluted_market_cap":1283882722640.64,
		"tvl":null,"last_updated":"2026-11-20T17:59:59.123Z"}}}]`)
	quotes, answer, err := parse(text)
	if err != nil || len(quotes) != 1 || answer.Rejected+answer.Fields != 0 {
		t.Fatalf("%d quotes, %+v, %v", len(quotes), answer, err)
	}
	q := quotes[0]
	f := func(name string, got, want any) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	f("id", q.ID, 1)
	f("info", *q.Info, market.Info{Symbol: "BTC", Name: "Bitcoin", Slug: "bitcoin"})
	f("price", q.Price, "61137.27250669717")
	f("volume", q.Volume24h, "0")
	f("cap", q.MarketCap, "null")
	f("1h", q.PercentChange1h, "-1.5")
	f("24h", q.PercentChange24h, "20")
	f("7d", q.PercentChange7d, "0.25")
	f("dominance", q.Dominance, "57.27")
	f("fully diluted", q.FullyDiluted, "1283882722640.64")
	f("max", q.MaxSupply, "21000000")
	f("circulating", q.CirculatingSupply, "19755334.5")
	f("total", q.TotalSupply, "null")
	f("self cap", q.SelfReportedCap, "5")
	f("self supply", q.SelfReportedSupply, "7")
	f("rank", q.Rank, 1)
	f("time", string(q.SourceTime.AppendRFC3339(nil)), "2026-11-20T17:59:59.123Z")
	f("flags", q.Flags, 0)
	f("has", q.Has, market.MaskOf(market.FieldPrice, market.FieldMarketCap, market.FieldVolume24h, market.FieldPercentChange1h,
		market.FieldPercentChange24h, market.FieldPercentChange7d, market.FieldCirculatingSupply, market.FieldTotalSupply,
		market.FieldMaxSupply, market.FieldFullyDilutedMarketCap, market.FieldDominance, market.FieldRank))
}

func TestShapes(t *testing.T) {
	f := func(data, want string) {
		t.Helper()
		quotes, _, err := parse(envelope(data))
		var got []string
		for _, q := range quotes {
			got = append(got, fmt.Sprintf("%d=%v", q.ID, q.Price))
		}
		if text := strings.Join(got, " "); text != want || err != nil {
			t.Errorf("%s\n\tread as %q, %v; want %q", data, text, err, want)
		}
	}
	coin := func(quote string) string { return `{"id":1,"symbol":"BTC","quote":` + quote + `}` }
	f(`[]`, "")
	f(`{}`, "")
	f(`[`+row(1, `"price":5`)+`,`+row(2, `"price":6`)+`]`, "1=5 2=6")
	f(`{"1":`+row(1, `"price":5`)+`,"2":`+row(2, `"price":6`)+`}`, "1=5 2=6")
	f(`{"BTC":[`+row(1, `"price":5`)+`,`+row(9, `"price":6`)+`],"ETH":[`+row(2, `"price":7`)+`]}`, "1=5 9=6 2=7")
	f(`[`+coin(`{"2781":{"price":5}}`)+`]`, "1=5")
	f(`[`+coin(`[{"id":2781,"symbol":"USD","price":5}]`)+`]`, "1=5")
	f(`[`+coin(`[{"id":2790,"symbol":"EUR","price":4},{"price":5,"symbol":"USD"}]`)+`]`, "1=5")
	f(`[`+coin(`[{"price":5,"id":"2781"},{"id":2790,"price":"x"}]`)+`]`, "1=5")
	f(`[{"quote":{"USD":{"price":5}},"symbol":"BTC","id":"1"}]`, "1=5")
	f(`[{"id":1,"symbol":"\u0042TC","quote":{"US\u0044":{"pr\u0069ce":5}}}]`, "1=5")
}

// Every value of a figure: what becomes of it, and of its place in Has.
func TestFigures(t *testing.T) {
	f := func(value, want string, has, rounded bool) {
		t.Helper()
		rows := row(1, `"price":1,"volume_24h":`+value)
		if value == "" {
			rows = row(1, `"price":1`)
		}
		for i := 2; i <= 6; i++ {
			rows += "," + row(i, `"price":1`)
		}
		quotes, _, err := parse(envelope("[" + rows + "]"))
		if err != nil || len(quotes) != 6 {
			t.Errorf("%s: %d quotes, %v", value, len(quotes), err)
			return
		}
		q := quotes[0]
		if got := q.Volume24h.String(); got != want || q.Has.Has(market.FieldVolume24h) != has || q.Flags&market.FlagRounded != 0 != rounded {
			t.Errorf("%s: %s, has %v, flags %v; want %s, %v, rounded %v", value, got, q.Has.Has(market.FieldVolume24h), q.Flags, want, has, rounded)
		}
	}
	f(`12.50`, "12.5", true, false)
	f(`"12.50"`, "12.5", true, false)
	f(`0`, "0", true, false)
	f(`-0`, "0", true, false)
	f(`-3`, "-3", true, false)
	f(`null`, "null", true, false)
	f(`""`, "null", true, false)
	f(``, "null", false, false)
	f(`1.2345678901234567891`, "1.23456789012345679", true, true)
	f(`1e20`, "100000000000000000000", true, false)
	f(`1e308`, "null", false, false)
	f(`1e309`, "null", false, false)
	f(`1e-400`, "null", false, false)
	f(`"NaN"`, "null", false, false)
	f(`"Infinity"`, "null", false, false)
	f(`"12,5"`, "null", false, false)
	f(`" 12"`, "null", false, false)
	f(`true`, "null", false, false)
	f(`[1]`, "null", false, false)
	f(`{"a":1}`, "null", false, false)
}

// One odd row among ten: is it taken, and is the answer?
func TestRows(t *testing.T) {
	f := func(odd string, rejected, fields int, reason string) {
		t.Helper()
		rows := odd
		for i := 101; i < 110; i++ {
			rows += "," + row(i, `"price":1`)
		}
		quotes, a, err := parse(envelope("[" + rows + "]"))
		if err != nil || a.Rejected != rejected || a.Fields != fields || a.Reason != reason || len(quotes) != 10-rejected {
			t.Errorf("%s:\n\t%d quotes, %+v, %v; want %d rejected, %d fields, %q", odd, len(quotes), a, err, rejected, fields, reason)
		}
	}
	usd := `"quote":{"USD":{"price":1}}`
	f(row(1, `"price":1`), 0, 0, "")
	f(`{"id":1,"symbol":"A",`+usd+`}`, 0, 0, "")
	f(`{"id":2147483647,"symbol":"A",`+usd+`}`, 0, 0, "")
	f(`{"id":2147483648,"symbol":"A",`+usd+`}`, 1, 1, "row 1: id is not an integer in range")
	f(`{"id":0,"symbol":"A",`+usd+`}`, 1, 1, "row 1: id is missing or not an id")
	f(`{"id":-1,"symbol":"A",`+usd+`}`, 1, 1, "row 1: id is not an integer in range")
	f(`{"id":1.5,"symbol":"A",`+usd+`}`, 1, 1, "row 1: id is not an integer in range")
	f(`{"symbol":"A",`+usd+`}`, 1, 1, "row 1: id is missing or not an id")
	f(`{"id":1,`+usd+`}`, 1, 1, "row 1: symbol is missing")
	f(`{"id":1,"symbol":"\u0000\u202e",`+usd+`}`, 1, 1, "row 1: symbol is missing")
	f(`{"id":1,"symbol":"A"}`, 1, 1, "row 1: quote has no USD")
	f(`{"id":1,"symbol":"A","quote":{"EUR":{"price":1}}}`, 1, 1, "row 1: quote has no USD")
	f(`{"id":1,"symbol":"A","quote":null}`, 1, 1, "row 1: quote has no USD")
	f(row(1, `"price":"abc"`), 1, 1, "row 1: price is not a number")
	f(row(1, `"price":1e309`), 1, 1, "row 1: price is out of range")
	f(row(1, `"market_cap":{}`), 0, 1, "row 1: market_cap is not a number")
	f(`{"id":1,"symbol":"A","cmc_rank":-4,`+usd+`}`, 0, 1, "row 1: cmc_rank is not an integer in range")
	f(`{"id":1,"symbol":"A","last_updated":1795284000,`+usd+`}`, 0, 1, "row 1: last_updated is not an instant")
	f(`null`, 1, 1, "row 1: row is not an object")
}

func TestRefusedWhole(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, _, err := parse(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v, want an error about %q", text, err, want)
		}
	}
	good := row(1, `"price":1`)
	f(``, "unexpected end")
	f(`<html><body>captcha</body></html>`, "unexpected '<'")
	f(envelope(`[`+good), "unexpected '}'")
	f(envelope(`[` + good + `]`)[:200], "unexpected end")
	f(envelope(`[`+good+`]`)+`{}`, "unexpected data after the end")
	f("\xef\xbb\xbf"+envelope(`[]`), "byte order mark")
	f(envelope(`[`+row(1, `"price":NaN`)+`]`), "unexpected 'N'")
	f(envelope(`[`+row(1, `"price":1,"price":2`)+`]`), "comes twice")
	f(envelope(`[{"id":1,"id":2}]`), "comes twice")
	f(envelope(`[{"symbol":"A","symbol":"B"}]`), "comes twice")
	f(envelope(`[{"quote":{"USD":{}},"quote":{}}]`), "comes twice")
	f(envelope(`[{"quote":{"USD":{},"2781":{}}}]`), "comes twice")
	f(`{`+okStatus+`,`+okStatus+`}`, "status comes twice")
	f(`{"data":[],"data":[]}`, "data comes twice")
	f(envelope("[{\"name\":\"\xff\"}]"), "invalid UTF-8")
	f(envelope(`[{"tags":`+strings.Repeat("[", 1e5)+`}]`), "nested too deep")
	f(envelope(`[`+row(1, `"price":"x"`)+`]`), "1 of 1 rows are bad, first row 1: price is not a number")
	f(`[`+good+`]`, "unexpected '['")
}

func TestNames(t *testing.T) {
	f := func(name, want string) {
		t.Helper()
		text, err := json.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		quotes, _, err := parse(envelope(`[{"id":1,"symbol":"A","name":` + string(text) + `,"quote":{"USD":{"price":1}}}]`))
		if err != nil || len(quotes) != 1 || quotes[0].Info.Name != want {
			t.Errorf("%q: %v, %v; want %q", name, quotes, err, want)
		}
	}
	f("Bitcoin", "Bitcoin")
	f("币安人生", "币安人生")
	f("ΤBTC 😀", "ΤBTC 😀")
	f(" padded ", "padded")
	f("a\x00b\tc\u202egpj", "abcgpj")
	f("<b>bold</b>", "<b>bold</b>")
	f(strings.Repeat("x", 10_000), strings.Repeat("x", 256))
	f(strings.Repeat("é", 200), strings.Repeat("é", 128))
}

func TestSourceTime(t *testing.T) {
	f := func(coin, quote, status, want string) {
		t.Helper()
		member := func(key, value string) string {
			if value == "" {
				return ""
			}
			return `"` + key + `":"` + value + `",`
		}
		text := `{"data":[{` + member("last_updated", coin) + `"id":1,"symbol":"A","quote":{"USD":{` + member("last_updated", quote) +
			`"price":1}}}],"status":{` + member("timestamp", status) + `"error_code":0}}`
		quotes, _, err := parse(text)
		if err != nil || len(quotes) != 1 || string(quotes[0].SourceTime.AppendRFC3339(nil)) != want {
			t.Errorf("%s: %v, %v; want %s", text, quotes, err, want)
		}
	}
	now := string(received.AppendRFC3339(nil))
	f("2026-11-20T17:00:00.000Z", "2026-11-20T17:30:00.500Z", "2026-11-20T18:00:00Z", "2026-11-20T17:30:00.500Z")
	f("2026-11-20T17:00:00.000Z", "", "2026-11-20T18:00:00Z", "2026-11-20T17:00:00.000Z")
	f("", "", "2026-11-20T18:00:00Z", "2026-11-20T18:00:00.000Z")
	f("", "", "", now)
	f("2026-11-20T19:00:00+02:00", "", "", "2026-11-20T17:00:00.000Z")
	f("2026-11-20T17:00:00.123456-00:30", "", "", "2026-11-20T17:30:00.123Z")
	f("2027-11-20T17:00:00Z", "", "", now) // the future is put back
}

func TestParseTime(t *testing.T) {
	bad := func(text string) {
		t.Helper()
		if got, ok := coinmarketcap.ParseTime([]byte(text)); ok {
			t.Errorf("%q was read as %v", text, got.Std())
		}
	}
	bad("")
	bad("2026-11-20")
	bad("2026-02-29T00:00:00Z")
	bad("2026-13-01T00:00:00Z")
	bad("2026-00-01T00:00:00Z")
	bad("2026-11-31T00:00:00Z")
	bad("2026-11-20T24:00:00Z")
	bad("2026-11-20T00:60:00Z")
	bad("2026-11-20T00:00:60Z")
	bad("2026-11-20T00:00:00")
	bad("2026-11-20T00:00:00.Z")
	bad("2026-11-20T00:00:00 UTC")
	bad("2026-11-20T00:00:00+25:00")
	bad("1970-01-01T00:00:00Z")
	bad("58864-08-22T16:00:00Z")
	for day := market.Time(1_230_768_000_000); day < 4_102_444_800_000; day = day.Add(31 * market.Hour) {
		text := day.AppendRFC3339(nil)
		if got, ok := coinmarketcap.ParseTime(text); !ok || got != day {
			t.Fatalf("%s: %v, %v", text, got, ok)
		}
	}
}

func TestDuplicatesAndInfo(t *testing.T) {
	p := coinmarketcap.NewParser()
	coin := func(id int, at string, price int) string {
		return fmt.Sprintf(`{"id":%d,"symbol":"S%d","name":"N","last_updated":"2026-11-20T17:00:%sZ","quote":{"USD":{"price":%d}}}`, id, id, at, price)
	}
	read := func(quotes []market.Quote, coins ...string) []market.Quote {
		t.Helper()
		quotes, _, err := p.Parse([]byte(envelope("["+strings.Join(coins, ",")+"]")), quotes, received)
		if err != nil {
			t.Fatal(err)
		}
		return quotes
	}
	f := func(quotes []market.Quote, want string) {
		t.Helper()
		var got []string
		for _, q := range quotes {
			got = append(got, fmt.Sprintf("%d=%v", q.ID, q.Price))
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("got %q, want %q", text, want)
		}
	}
	p.Begin()
	first := read(read(nil, coin(1, "10", 5), coin(2, "10", 6)), coin(2, "10", 7), coin(1, "09", 8), coin(3, "10", 9))
	f(first, "1=5 2=7 3=9")
	p.Begin()
	second := read(nil, coin(2, "20", 1), coin(1, "20", 2))
	f(second, "2=1 1=2")
	if second[1].Info != first[0].Info {
		t.Error("the names of an unchanged token were made anew")
	}
	p.Begin()
	renamed := read(nil, `{"id":1,"symbol":"S1","name":"New","quote":{"USD":{"price":1}}}`)
	if renamed[0].Info == first[0].Info || renamed[0].Info.Name != "New" || first[0].Info.Name != "N" {
		t.Error("a new name was missed, or written into what is shared")
	}
}

func TestStatus(t *testing.T) {
	f := func(status string, code int, message string) {
		t.Helper()
		_, a, err := parse(`{"status":` + status + `}`)
		if err != nil || a.Status.Code != code || a.Status.Message != message || a.HasData {
			t.Errorf("%s: %+v, %v", status, a, err)
		}
	}
	f(`{"error_code":0,"error_message":null}`, 0, "")
	f(`{"error_code":"0","error_message":""}`, 0, "")
	f(`{"error_code":1010,"error_message":"no"}`, 1010, "no")
	f(`{"error_code":"1002","error_message":"API key missing."}`, 1002, "API key missing.")
	f(`{"error_code":null}`, 0, "")
	f(`{"error_code":{}}`, -1, "")
	f(`{"error_code":"none"}`, -1, "")
}

// The recorded answers give the numbers that encoding/json finds in them.
func TestRecorded(t *testing.T) {
	f := func(name string, rows int) {
		t.Helper()
		data := recorded(t, name)
		p := coinmarketcap.NewParser()
		p.Bare = true
		p.Begin()
		quotes, a, err := p.Parse(data, nil, 0)
		if err != nil || a.Rows != rows || len(quotes) != rows || a.Rejected+a.Fields+a.Clamped != 0 {
			t.Fatalf("%s: %d quotes, %+v, %v", name, len(quotes), a, err)
		}
		for i, c := range reference(t, data) {
			q, usd := quotes[i], c.Quote["USD"]
			same(t, c.Symbol, "price", q.Price, usd["price"])
			same(t, c.Symbol, "cap", q.MarketCap, usd["market_cap"])
			same(t, c.Symbol, "volume", q.Volume24h, usd["volume_24h"])
			same(t, c.Symbol, "7d", q.PercentChange7d, usd["percent_change_7d"])
			same(t, c.Symbol, "max", q.MaxSupply, c.Max)
			same(t, c.Symbol, "circulating", q.CirculatingSupply, c.Circulating)
			if q.Info.Symbol != c.Symbol || fmt.Sprint(q.ID) != strings.Trim(string(c.ID), `"`) {
				t.Fatalf("row %d is %v %q, want %s %q", i, q.ID, q.Info.Symbol, c.ID, c.Symbol)
			}
		}
	}
	f("cmc/listings_latest_2021-06-29_limit1000.json.gz", 1000)
	f("cmc/listings_latest_2020-10-24_limit100.json", 100)
	f("cmc/listings_latest_2024-09-17T160038_limit20.json", 20)
	f("cmc/coins_2021-07-01_top100_from_csv.json", 100)
}

type coinOf struct {
	ID          json.RawMessage
	Symbol      string
	Max         json.RawMessage `json:"max_supply"`
	Circulating json.RawMessage `json:"circulating_supply"`
	Quote       map[string]map[string]json.RawMessage
}

func reference(t *testing.T, data []byte) (coins []coinOf) {
	t.Helper()
	var whole struct{ Data []coinOf }
	if json.Unmarshal(data, &whole) == nil && whole.Data != nil {
		return whole.Data
	}
	if err := json.Unmarshal(data, &coins); err != nil {
		t.Fatal(err)
	}
	return coins
}

func same(t *testing.T, symbol, what string, got market.Decimal, raw json.RawMessage) {
	t.Helper()
	text := strings.Trim(string(raw), `"`)
	want := market.Null
	if text != "" && text != "null" {
		want, _, _ = market.ParseDecimal([]byte(text))
	}
	if got != want {
		t.Errorf("%s: %s is %v, want %s", symbol, what, got, text)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(envelope(`[` + row(1, `"price":5,"market_cap":null`) + `]`)))
	f.Add([]byte(envelope(`{"BTC":[` + row(1, `"price":"5"`) + `]}`)))
	f.Add([]byte(envelope(`[{"id":1,"symbol":"A","quote":[{"id":2781,"symbol":"USD","price":1e-7}]}]`)))
	f.Add([]byte(`{"status":{"error_code":"1010"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p := coinmarketcap.NewParser()
		p.Begin()
		quotes, a, err := p.Parse(data, nil, received)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatal("an answer was taken that is not JSON")
		}
		seen := map[market.ID]bool{}
		for i := range quotes {
			q := &quotes[i]
			if q.ID == 0 || q.ID >= 1<<31 || seen[q.ID] || q.Info == nil || q.Info.Symbol == "" || q.SourceTime == 0 ||
				len(q.Info.Name) > 256 || len(q.Info.Slug) > 256 || len(q.Info.Symbol) > 64 {
				t.Fatalf("row %d broke its promises: %+v", i, q)
			}
			seen[q.ID] = true
		}
		if a.Rejected > a.Rows {
			t.Fatalf("%d of %d rows rejected", a.Rejected, a.Rows)
		}
	})
}

// The floor is encoding/json's check of the same bytes, which reads nothing.
func BenchmarkParse(b *testing.B) {
	data := recorded(b, "cmc/listings_latest_2021-06-29_limit1000.json.gz")
	p := coinmarketcap.NewParser()
	b.ReportAllocs()
	var n int
	for b.Loop() {
		p.Begin()
		quotes, _, err := p.Parse(data, make([]market.Quote, 0, 1000), 0)
		if err != nil {
			b.Fatal(err)
		}
		n = len(quotes)
	}
	perCoin := float64(b.Elapsed().Nanoseconds()) / float64(b.N) / float64(n)
	// The floor is timed here: a benchmark cannot run inside a benchmark.
	const rounds = 20
	began := time.Now()
	for range rounds {
		json.Valid(data)
	}
	floor := float64(time.Since(began).Nanoseconds()) / rounds / float64(n)
	b.ReportMetric(perCoin, "ns/coin")
	b.ReportMetric(perCoin/floor, "xfloor")
	b.ReportMetric(float64(len(data))/float64(n), "B/coin")
}
