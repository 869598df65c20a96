package simulator

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// The members of the answers as recorded in 2024 (listings) and 2021 (map).
const (
	statusKeys = "timestamp error_code error_message elapsed credit_count notice total_count"
	rowKeys    = "id name symbol slug num_market_pairs date_added tags max_supply circulating_supply total_supply infinite_supply " +
		"platform cmc_rank self_reported_circulating_supply self_reported_market_cap tvl_ratio last_updated quote"
	usdKeys = "price volume_24h volume_change_24h percent_change_1h percent_change_24h percent_change_7d percent_change_30d " +
		"percent_change_60d percent_change_90d market_cap market_cap_dominance fully_diluted_market_cap tvl last_updated"
	mapKeys      = "id name symbol slug rank is_active first_historical_data last_historical_data platform"
	platformKeys = "id name symbol slug token_address"
)

// object is a JSON object with its members in order.
type object struct {
	keys   []string
	values map[string]json.RawMessage
}

func parseObject(t testing.TB, text []byte) object {
	t.Helper()
	o := object{values: make(map[string]json.RawMessage)}
	dec := json.NewDecoder(bytes.NewReader(text))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		t.Fatalf("%v, %v: no object in %.80s", tok, err, text)
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			t.Fatal(err)
		}
		o.keys = append(o.keys, key.(string))
		o.values[key.(string)] = value
	}
	return o
}

func (o object) want(t testing.TB, name, keys string) {
	t.Helper()
	if got := strings.Join(o.keys, " "); got != keys {
		t.Fatalf("members of %s\n got %s\nwant %s", name, got, keys)
	}
}

func (o object) child(t testing.TB, key string) object {
	t.Helper()
	return parseObject(t, o.values[key])
}

func (o object) rows(t testing.TB) []object {
	t.Helper()
	var raw []json.RawMessage
	if err := json.Unmarshal(o.values["data"], &raw); err != nil {
		t.Fatal(err)
	}
	var rows []object
	for _, r := range raw {
		rows = append(rows, parseObject(t, r))
	}
	return rows
}

// kinds of JSON values; null goes with any kind.
func kind(v json.RawMessage) string {
	switch v[0] {
	case '"':
		return "string"
	case '{':
		return "object"
	case '[':
		return "array"
	case 't', 'f':
		return "bool"
	case 'n':
		return "null"
	}
	return "number"
}

// kindsOf collects the kinds that each member has in some rows.
func kindsOf(rows []object) map[string][]string {
	kinds := make(map[string][]string)
	for _, r := range rows {
		for k, v := range r.values {
			if n := kind(v); !slices.Contains(kinds[k], n) {
				kinds[k] = append(kinds[k], n)
				slices.Sort(kinds[k])
			}
		}
	}
	return kinds
}

func quotesOf(t testing.TB, rows []object) (quotes []object) {
	for _, r := range rows {
		quotes = append(quotes, r.child(t, "quote").child(t, "USD"))
	}
	return quotes
}

func TestListingsShape(t *testing.T) {
	m := newTestMarket(t, Config{Seed: 1})
	body := parseObject(t, get(t, m, "KEY", listingsURI).body)
	body.want(t, "body", "status data")
	body.child(t, "status").want(t, "status", statusKeys)
	for _, r := range body.rows(t) {
		r.want(t, "row", rowKeys)
		r.child(t, "quote").want(t, "quote", "USD")
		r.child(t, "quote").child(t, "USD").want(t, "USD", usdKeys)
		if kind(r.values["platform"]) == "object" {
			r.child(t, "platform").want(t, "platform", platformKeys)
		}
	}
	mapping := parseObject(t, get(t, m, "KEY", "/v1/cryptocurrency/map").body)
	mapping.child(t, "status").want(t, "status of map", strings.TrimSuffix(statusKeys, " total_count"))
	for _, r := range mapping.rows(t) {
		r.want(t, "map row", mapKeys)
	}
	v3 := parseObject(t, get(t, m, "KEY", "/v3/cryptocurrency/listings/latest?limit=1").body)
	if string(v3.child(t, "status").values["error_code"]) != `"0"` {
		t.Fatalf("v3: %s", v3.values["status"])
	}
	var quote []json.RawMessage
	if err := json.Unmarshal(v3.rows(t)[0].values["quote"], &quote); err != nil || len(quote) != 1 {
		t.Fatalf("v3: %v, %s", err, v3.rows(t)[0].values["quote"])
	}
	parseObject(t, quote[0]).want(t, "v3 quote", "id symbol price volume_24h cex_volume_24h dex_volume_24h minted_market_cap "+
		"market_cap_by_total_supply volume_change_24h percent_change_1h percent_change_24h percent_change_7d percent_change_30d "+
		"percent_change_60d percent_change_90d market_cap market_cap_dominance fully_diluted_market_cap tvl last_updated")
}

// TestShapeOfRecordings holds the lists above, and ours, against real answers.
func TestShapeOfRecordings(t *testing.T) {
	real2024 := parseObject(t, recording(t, "cmc/listings_latest_2024-09-17T160038_limit20.json"))
	real2024.child(t, "status").want(t, "recorded status", statusKeys)
	theirs := real2024.rows(t)
	m := newTestMarket(t, Config{Seed: 1})
	ours := parseObject(t, get(t, m, "KEY", listingsURI).body).rows(t)
	theirs[0].want(t, "recorded row", rowKeys)
	theirs[0].child(t, "quote").child(t, "USD").want(t, "recorded USD", usdKeys)
	sameKinds := func(ours, theirs map[string][]string) {
		t.Helper()
		for k, want := range theirs {
			if got := ours[k]; !slices.Equal(got, want) {
				t.Errorf("%s is %v, recorded %v", k, got, want)
			}
		}
	}
	sameKinds(kindsOf(ours), kindsOf(theirs))
	sameKinds(kindsOf(quotesOf(t, ours)), kindsOf(quotesOf(t, theirs)))

	mapping := parseObject(t, recording(t, "cmc/map_2021-02-22.json.gz")).rows(t)
	mapping[0].want(t, "recorded map row", mapKeys)
	sameKinds(kindsOf(parseObject(t, get(t, m, "KEY", "/v1/cryptocurrency/map").body).rows(t)), kindsOf(mapping))

	for _, r := range []string{"errors/errors.jsonl"} {
		for line := range strings.Lines(string(recording(t, r))) {
			var e struct {
				Provider string
				Body     struct {
					Status struct {
						Code    json.Number `json:"error_code"`
						Message string      `json:"error_message"`
					}
				}
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.Provider != "cmc" {
				continue
			}
			known := []*fault{faultKeyInvalid, faultKeyMissing, faultPlan, faultMinute, faultMonth, badRequest(`"id" is not allowed`)}
			if !slices.ContainsFunc(known, func(f *fault) bool { return f.message == e.Body.Status.Message }) {
				t.Errorf("no error says %q", e.Body.Status.Message)
			}
		}
	}
}

// recording reads a file of the recorded data, or skips the test.
func recording(t *testing.T, name string) []byte {
	t.Helper()
	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for !exists(filepath.Join(dir, "go.mod")) {
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the package")
		}
		dir = filepath.Dir(dir)
	}
	path := filepath.Join(dir, "..", "shared", "data", filepath.FromSlash(name))
	if !exists(path) {
		t.Skipf("no recorded data at ../shared/data/%s", name)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(name, ".gz") {
		return raw
	}
	zr, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	raw, err = io.ReadAll(zr)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

func TestGlobalMetricsAddUp(t *testing.T) {
	m := newTestMarket(t, Config{Seed: 1})
	var g struct {
		Active int     `json:"active_cryptocurrencies"`
		BTC    float64 `json:"btc_dominance"`
		Quote  map[string]struct {
			Cap    float64 `json:"total_market_cap"`
			Volume float64 `json:"total_volume_24h"`
			Alt    float64 `json:"altcoin_market_cap"`
		} `json:"quote"`
	}
	a := good(t, m, "/v1/global-metrics/quotes/latest?convert=USD,EUR", &g)
	var sum, volume, btc float64
	for _, q := range m.Batch(noon).Quotes {
		sum, volume = sum+q.MarketCap.Float(), volume+q.Volume24h.Float()
		if q.ID == 1 {
			btc = q.MarketCap.Float()
		}
	}
	near(t, g.Quote["USD"].Cap, sum)
	near(t, g.Quote["USD"].Volume, volume)
	near(t, g.Quote["USD"].Alt, sum-btc)
	near(t, g.BTC, 100*btc/sum)
	near(t, g.Quote["EUR"].Cap/g.Quote["USD"].Cap, 0.861)
	if g.Active != 500 || a.Status.Credits != 2 {
		t.Fatalf("%+v, %d credits", g, a.Status.Credits)
	}
}

// feed is a recording of two polls.
type feed struct{ polls [2]*market.Batch }

func (f *feed) At(now market.Time) *market.Batch {
	switch {
	case now < noon:
		return nil
	case now < noon+1000:
		return f.polls[0]
	}
	return f.polls[1]
}

func TestRecordedFeed(t *testing.T) {
	quote := func(id market.ID, price int64, has market.Mask) market.Quote {
		return market.Quote{
			ID: id, Info: &market.Info{Symbol: "S\"1", Name: "ΤName\x01", Slug: "s"}, Has: has, SourceTime: noon - 60_000,
			Price: market.NewDecimal(price, -18), MarketCap: market.Null, Volume24h: market.Decimal{}, MaxSupply: market.Null,
			SelfReportedCap: market.Null, SelfReportedSupply: market.Null,
		}
	}
	has := market.MaskOf(market.FieldPrice, market.FieldMarketCap, market.FieldVolume24h)
	f := &feed{polls: [2]*market.Batch{
		{ReceivedAt: noon, Quotes: []market.Quote{quote(3_000_000_000, 1, has)}},
		{ReceivedAt: noon + 1000, Quotes: []market.Quote{quote(3_000_000_000, 2, has), quote(5, 3, has&^market.FieldVolume24h.Bit())}},
	}}
	c := &clock{now: noon - 1}
	m := newTestMarket(t, Config{Feed: f, Now: c.Now})
	if a := get(t, m, "KEY", listingsURI); a.code != 500 || m.Batch(c.now) != nil {
		t.Fatalf("before the start: %s", a.body)
	}
	c.now = noon
	a := get(t, m, "KEY", listingsURI)
	want := `[{"id":3000000000,"name":"ΤName\u0001","symbol":"S\"1","slug":"s","num_market_pairs":0,"date_added":"2013-04-28T00:00:00.000Z",` +
		`"tags":[],"infinite_supply":false,"platform":null,"self_reported_circulating_supply":null,"self_reported_market_cap":null,` +
		`"tvl_ratio":null,"last_updated":"2026-11-20T11:59:00.000Z","quote":{"USD":{"price":1e-18,"volume_24h":0,"volume_change_24h":null,` +
		`"percent_change_30d":null,"percent_change_60d":null,"percent_change_90d":null,"market_cap":null,"tvl":null,` +
		`"last_updated":"2026-11-20T11:59:00.000Z"}}}]`
	if string(a.Data) != want || m.Batch(c.now) != f.polls[0] {
		t.Fatalf("got %s", a.Data)
	}
	c.now += 1000
	var rows []row
	good(t, m, listingsURI, &rows)
	if _, has := rows[1].Quote["USD"]["volume_24h"]; len(rows) != 2 || has || string(rows[0].Quote["USD"]["price"]) != "2e-18" {
		t.Fatalf("got %+v", rows)
	}
	get(t, m, "KEY", "/v1/global-metrics/quotes/latest")
	good(t, m, "/v1/cryptocurrency/map?listing_status=active,inactive", &rows)
	if len(rows) != 2 || rows[0].ID != 5 {
		t.Fatalf("map: %+v", rows)
	}
}
