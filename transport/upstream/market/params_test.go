package simulator

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestParametersRefused(t *testing.T) {
	m := newTestMarket(t, Config{Seed: 1})
	f := func(uri, want string) {
		t.Helper()
		a := get(t, m, "KEY", uri)
		if a.code != 400 || a.Status.Message == nil || *a.Status.Message != want || a.Data != nil || a.Status.Credits != 0 ||
			string(a.Status.Code) != "400" && string(a.Status.Code) != `"400"` {
			t.Fatalf("%s\n got %d %s\nwant %s", uri, a.code, a.body, want)
		}
	}
	const l, q, i, mp = "/v1/cryptocurrency/listings/latest?", "/v2/cryptocurrency/quotes/latest?", "/v1/cryptocurrency/info?", "/v1/cryptocurrency/map?"
	f(l+"id=1", `"id" is not allowed`)
	f(l+"=1", `"" is not allowed`)
	f(l+"limit=0", `"limit" must be larger than or equal to 1`)
	f(l+"limit=-5", `"limit" must be larger than or equal to 1`)
	f(l+"limit=5001", `"limit" must be less than or equal to 5000`)
	f(l+"limit=many", `"limit" must be a number`)
	f(l+"limit=NaN", `"limit" must be a number`)
	f(l+"limit=1.5", `"limit" must be an integer`)
	f(l+"limit=", `"limit" is not allowed to be empty`)
	f(l+"limit=1&limit=2", `"limit" must be a string`)
	f(l+"start=0", `"start" must be larger than or equal to 1`)
	f(l+"price_min=-1", `"price_min" must be larger than or equal to 0`)
	f(l+"percent_change_24h_min=-101", `"percent_change_24h_min" must be larger than or equal to -100`)
	f(l+"sort_dir=up", `"sort_dir" must be one of [asc, desc]`)
	f(l+"cryptocurrency_type=nft", `"cryptocurrency_type" must be one of [all, coins, tokens]`)
	f(l+"convert=XYZQ", `Invalid value for "convert": "XYZQ"`)
	f(l+"convert_id=99999999", `Invalid value for "convert_id": "99999999"`)
	f(l+"convert_id=USD", `"convert_id" should only include comma-separated numeric CoinMarketCap cryptocurrency ids`)
	f(l+"convert=USD&convert_id=2781", `"value" contains a conflict between optional exclusive peers [convert, convert_id]`)
	f("/v3/cryptocurrency/listings/latest?slug=bitcoin", `"slug" is not allowed`)
	f(q, `"value" must contain at least one of [id, symbol, slug]`)
	f(q+"id=1&symbol=BTC", `"value" contains a conflict between exclusive peers [id, symbol, slug]`)
	f(q+"id=abc", `"id" should only include comma-separated numeric CoinMarketCap cryptocurrency ids`)
	f(q+"id=1,,2", `"id" should only include comma-separated numeric CoinMarketCap cryptocurrency ids`)
	f(q+"symbol=B%20C", `"symbol" should only include comma-separated alphanumeric cryptocurrency symbols`)
	f(q+"id=1234567", `Invalid value for "id": "1234567"`)
	f(q+"symbol=BTC,NOSUCHX,NORTHISX", `Invalid values for "symbol": "NOSUCHX,NORTHISX"`)
	f(q+"slug=no-such", `Invalid value for "slug": "no-such"`)
	f(q+"id=99999999999999999999", `Invalid value for "id": "99999999999999999999"`)
	f(i+"symbol=NOSUCHX", `Invalid value for "symbol": "NOSUCHX"`)
	f(i+"address=0xdead", `Invalid value for "address": "0xdead"`)
	f(mp+"sort=price", `"sort" must be one of [id, cmc_rank]`)
	f(mp+"listing_status=dead", `"listing_status" should only include comma-separated values of [active, inactive, untracked]`)
	f(mp+"symbol=NOSUCHX", `Invalid value for "symbol": "NOSUCHX"`)
	f("/v1/key/info?x=1", `"x" is not allowed`)
	f("/v1/global-metrics/quotes/latest?limit=1", `"limit" is not allowed`)
	if a := get(t, m, "KEY", l+"sort=best"); !strings.HasPrefix(*a.Status.Message, `"sort" must be one of [name, symbol, `) {
		t.Fatal(*a.Status.Message)
	}
}

func TestListingsParameters(t *testing.T) {
	m := newTestMarket(t, Config{Seed: 1})
	f := func(query string, credits, total int, check func(rows []row) bool) {
		t.Helper()
		var rows []row
		a := good(t, m, "/v1/cryptocurrency/listings/latest?"+query, &rows)
		if a.Status.Credits != credits || *a.Status.Total != total && total >= 0 || !check(rows) {
			t.Fatalf("%s: %d rows, credits %d, total %d", query, len(rows), a.Status.Credits, *a.Status.Total)
		}
	}
	number := func(r *row, name string) float64 { return decimal(t, r.Quote["USD"][name]).Float() }
	sorted := func(name string, sign float64) func(rows []row) bool {
		return func(rows []row) bool {
			for i := 1; i < len(rows); i++ {
				if sign*number(&rows[i-1], name) > sign*number(&rows[i], name) {
					return false
				}
			}
			return len(rows) > 1
		}
	}
	count := func(n int) func(rows []row) bool { return func(rows []row) bool { return len(rows) == n } }
	every := func(ok func(r *row) bool) func(rows []row) bool {
		return func(rows []row) bool {
			for i := range rows {
				if !ok(&rows[i]) {
					return false
				}
			}
			return len(rows) > 0
		}
	}
	f("", 1, 500, count(100))
	f("limit=200", 1, 500, count(200))
	f("limit=201", 2, 500, count(201))
	f("limit=5000", 3, 500, count(500))
	f("limit=5000&convert=USD,EUR,BTC", 5, 500, count(500))
	f("start=491", 1, 500, count(10))
	f("start=501", 1, 500, count(0))
	f("start=11&limit=1", 1, 500, every(func(r *row) bool { return r.Rank == 11 }))
	f("sort_dir=asc&limit=1", 1, 500, every(func(r *row) bool { return r.Rank == 500 }))
	f("sort=price", 1, 500, sorted("price", -1))
	f("sort=price&sort_dir=asc", 1, 500, sorted("price", 1))
	f("sort=volume_24h", 1, 500, sorted("volume_24h", -1))
	f("sort=percent_change_24h&sort_dir=asc", 1, 500, sorted("percent_change_24h", 1))
	f("sort=market_cap_strict&limit=500", 3, 500, sorted("market_cap", -1))
	f("sort=name&limit=500", 3, 500, func(rows []row) bool {
		return strings.ToLower(rows[0].Name) < strings.ToLower(rows[250].Name)
	})
	f("price_min=100&price_max=1000", 1, -1, every(func(r *row) bool { p := number(r, "price"); return p >= 100 && p <= 1000 }))
	f("market_cap_min=1e10", 1, -1, every(func(r *row) bool { return number(r, "market_cap") >= 1e10 }))
	f("volume_24h_max=0", 1, -1, every(func(r *row) bool { return number(r, "volume_24h") == 0 }))
	f("percent_change_24h_max=-1&sort=symbol", 1, -1, every(func(r *row) bool { return number(r, "percent_change_24h") <= -1 }))
	f("cryptocurrency_type=coins&limit=2", 1, -1, every(func(r *row) bool { return r.ID == 1 || r.ID == 1027 }))
	f("cryptocurrency_type=tokens&limit=1", 1, -1, every(func(r *row) bool { return r.ID == 825 }))
	f("tag=stablecoin&limit=1", 1, -1, every(func(r *row) bool { return r.ID == 825 }))
	f("aux=cmc_rank&limit=3", 1, 500, every(func(r *row) bool { return r.Rank > 0 && r.Circulating == nil && r.Max == nil }))
}

func TestConvert(t *testing.T) {
	m := newTestMarket(t, Config{Seed: 1})
	var rows []row
	good(t, m, "/v1/cryptocurrency/listings/latest?convert=USD,eur,BTC&limit=5", &rows)
	for _, r := range rows {
		usd, eur := decimal(t, r.Quote["USD"]["price"]).Float(), decimal(t, r.Quote["EUR"]["price"]).Float()
		btc := decimal(t, r.Quote["BTC"]["market_cap"]).Float() / decimal(t, r.Quote["USD"]["market_cap"]).Float()
		near(t, eur/usd, 0.861)
		near(t, btc*decimal(t, rows[0].Quote["USD"]["price"]).Float(), 1)
		if string(r.Quote["EUR"]["percent_change_24h"]) != string(r.Quote["USD"]["percent_change_24h"]) {
			t.Fatal("a fixed rate changes no percentage")
		}
	}
	near(t, decimal(t, rows[0].Quote["BTC"]["price"]).Float(), 1)
	if got := string(rows[0].Quote["BTC"]["percent_change_7d"]) + string(rows[0].Quote["BTC"]["percent_change_90d"]); got != "00" {
		t.Fatalf("bitcoin moves against itself: %s", got)
	}
	good(t, m, "/v1/cryptocurrency/listings/latest?convert_id=2790,1&limit=1", &rows)
	if rows[0].Quote["2790"] == nil || rows[0].Quote["1"] == nil {
		t.Fatalf("quotes are keyed %v", rows[0].Quote)
	}
}

func near(t *testing.T, got, want float64) {
	t.Helper()
	if got < want*(1-1e-9) || got > want*(1+1e-9) {
		t.Fatalf("got %g, want %g", got, want)
	}
}

func TestQuotesByIDSymbolAndSlug(t *testing.T) {
	m := newTestMarket(t, Config{Seed: 1, Tokens: 3000})
	one := func(uri string, keys ...string) {
		t.Helper()
		var data map[string]row
		good(t, m, uri, &data)
		for _, k := range keys {
			if data[k].ID == 0 || len(data) != len(keys) {
				t.Fatalf("%s: no %s in %d coins", uri, k, len(data))
			}
		}
	}
	one("/v1/cryptocurrency/quotes/latest?id=1,825,1", "1", "825")
	one("/v1/cryptocurrency/quotes/latest?symbol=btc,ETH", "BTC", "ETH")
	one("/v1/cryptocurrency/quotes/latest?slug=bitcoin", "1")
	one("/v2/cryptocurrency/quotes/latest?id=1027", "1027")
	one("/v2/cryptocurrency/quotes/latest?slug=ethereum", "1027")
	one("/v1/cryptocurrency/quotes/latest?symbol=BTC,NOSUCHX&skip_invalid=true", "BTC")
	one("/v1/cryptocurrency/info?id=1,2", "1", "2")
	one("/v1/cryptocurrency/info?symbol=BTC", "BTC")

	// A symbol that several coins share: v1 gives the largest, v2 all.
	quotes := m.Batch(noon).Quotes
	count := make(map[string]int)
	for _, q := range quotes {
		count[q.Info.Symbol]++
	}
	for _, q := range quotes {
		n := count[q.Info.Symbol]
		if n < 2 {
			continue
		}
		var v1 map[string]row
		var v2 map[string][]row
		a := good(t, m, "/v1/cryptocurrency/quotes/latest?symbol="+q.Info.Symbol, &v1)
		good(t, m, "/v2/cryptocurrency/quotes/latest?symbol="+q.Info.Symbol, &v2)
		if v1[q.Info.Symbol].ID != q.ID || len(v2[q.Info.Symbol]) != n || v2[q.Info.Symbol][0].ID != q.ID || a.Status.Total != nil {
			t.Fatalf("%s: %s", q.Info.Symbol, a.Data)
		}
		return
	}
	t.Fatal("no symbol is shared")
}

func TestMapParameters(t *testing.T) {
	m := newTestMarket(t, Config{Seed: 1})
	f := func(query string, n int, first string) {
		t.Helper()
		var rows []json.RawMessage
		good(t, m, "/v1/cryptocurrency/map"+query, &rows)
		if len(rows) != n || n > 0 && !strings.HasPrefix(string(rows[0]), first) {
			t.Fatalf("%s: %d rows, the first %s", query, len(rows), rows[:min(1, len(rows))])
		}
	}
	f("", 500, `{"id":1,"name":"Bitcoin","symbol":"BTC"`)
	f("?start=2&limit=3", 3, `{"id":2,"name":"Litecoin"`)
	f("?sort=cmc_rank&start=2&limit=1", 1, `{"id":1027,`)
	f("?symbol=eth,BTC&limit=1&start=3", 2, `{"id":1027,`)
	f("?listing_status=untracked", 0, "")
	f("?aux=status&limit=1", 1, `{"id":1,"name":"Bitcoin","symbol":"BTC","slug":"bitcoin","rank":1,"status":"active"}`)
}

func FuzzParameters(f *testing.F) {
	for _, seed := range []string{
		"", "limit=5", "id=1&id=2", "symbol=%CE%A4BTC,$X", "convert=USD,EUR,BTC&sort=price&sort_dir=asc", "start=9&limit=5000&price_min=1e3",
		"aux=tags,platform&tag=defi", "id=%zz&=&&;", "convert_id=1,2781&percent_change_24h_min=-100", "CMC_PRO_API_KEY=KEY&slug=bitcoin",
	} {
		f.Add(seed)
	}
	m := newTestMarket(f, Config{Seed: 1, Tokens: 20})
	paths := []string{
		"/v1/cryptocurrency/listings/latest", "/v3/cryptocurrency/listings/latest", "/v2/cryptocurrency/quotes/latest",
		"/v1/cryptocurrency/map", "/v1/cryptocurrency/info", "/v1/global-metrics/quotes/latest", "/v1/key/info",
	}
	f.Fuzz(func(t *testing.T, query string) {
		if strings.ContainsAny(query, "#\x00") {
			return
		}
		for _, p := range paths {
			c := &call{market: m, now: noon, version: 1, account: m.accounts.keys["KEY"], total: -1}
			fault := c.run([]byte(query), endpoints[p])
			switch {
			case fault == nil && !json.Valid(c.data):
				t.Fatalf("%s?%s answers %.300s", p, query, c.data)
			case fault != nil && fault.code != 400:
				t.Fatalf("%s?%s: %+v", p, query, *fault)
			case fault != nil && !json.Valid([]byte(quoteJSON(fault.message))):
				t.Fatalf("%s?%s: %q is no JSON", p, query, fault.message)
			}
		}
	})
}
