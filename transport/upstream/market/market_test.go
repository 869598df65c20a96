package simulator

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"

	"github.com/velocimeter/velocimeter/engine/market"
)

// TestMain checks for leaks. fasthttp keeps three kinds of goroutines of its own:
// the date of the header, gzip workers, and a cleaner that notices the end of
// its server up to ten seconds late.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp/stackless.funcWorker"))
}

// clock is the virtual time of a test.
type clock struct{ now market.Time }

func (c *clock) Now() market.Time { return c.now }

// newTestMarket has the unlimited key "KEY" and what cfg adds.
func newTestMarket(t testing.TB, cfg Config) *Market {
	t.Helper()
	if cfg.Now == nil {
		cfg.Now = (&clock{now: noon}).Now
	}
	cfg.Keys = append(cfg.Keys, Key{Value: "KEY", Plan: Unlimited})
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// answer is a response as a client sees it.
type answer struct {
	code   int
	body   []byte
	Status struct {
		Timestamp string          `json:"timestamp"`
		Code      json.RawMessage `json:"error_code"`
		Message   *string         `json:"error_message"`
		Credits   int             `json:"credit_count"`
		Notice    *string         `json:"notice"`
		Total     *int            `json:"total_count"`
	} `json:"status"`
	Data json.RawMessage `json:"data"`
}

func get(t testing.TB, m *Market, key, uri string) answer {
	t.Helper()
	var req fasthttp.Request
	req.SetRequestURI("http://market" + uri)
	if key != "" {
		req.Header.Set(keyHeader, key)
	}
	var ctx fasthttp.RequestCtx
	ctx.Init(&req, nil, nil)
	m.Handler()(&ctx)
	a := answer{code: ctx.Response.StatusCode(), body: bytes.Clone(ctx.Response.Body())}
	if err := json.Unmarshal(a.body, &a); err != nil {
		t.Fatalf("%s: %v in %.300s", uri, err, a.body)
	}
	return a
}

// good wants 200 and decodes the data.
func good(t testing.TB, m *Market, uri string, data any) answer {
	t.Helper()
	a := get(t, m, "KEY", uri)
	if a.code != 200 || a.Status.Message != nil {
		t.Fatalf("%s: code %d, body %.300s", uri, a.code, a.body)
	}
	if err := json.Unmarshal(a.Data, data); err != nil {
		t.Fatalf("%s: %v in %.300s", uri, err, a.Data)
	}
	return a
}

// row is a coin of an answer with the texts of its numbers.
type row struct {
	ID          market.ID                             `json:"id"`
	Symbol      string                                `json:"symbol"`
	Name        string                                `json:"name"`
	Slug        string                                `json:"slug"`
	Rank        uint32                                `json:"cmc_rank"`
	Circulating json.RawMessage                       `json:"circulating_supply"`
	Total       json.RawMessage                       `json:"total_supply"`
	Max         json.RawMessage                       `json:"max_supply"`
	SelfSupply  json.RawMessage                       `json:"self_reported_circulating_supply"`
	SelfCap     json.RawMessage                       `json:"self_reported_market_cap"`
	Updated     string                                `json:"last_updated"`
	Quote       map[string]map[string]json.RawMessage `json:"quote"`
}

func decimal(t testing.TB, text json.RawMessage) market.Decimal {
	t.Helper()
	if string(text) == "null" {
		return market.Null
	}
	d, _, err := market.ParseDecimal(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return d
}

func TestBatchEqualsAnswer(t *testing.T) {
	f := func(cfg Config) {
		t.Helper()
		m := newTestMarket(t, cfg)
		b := m.Batch(noon)
		var rows []row
		good(t, m, "/v1/cryptocurrency/listings/latest?limit=5000", &rows)
		if len(rows) != len(b.Quotes) || b.Source != market.SourceMarket || !b.Simulated || b.ReceivedAt != noon || b.Cadence != m.cfg.Tick {
			t.Fatalf("%d rows, batch of %d: %+v", len(rows), len(b.Quotes), *b)
		}
		for i, r := range rows {
			q, usd := &b.Quotes[i], r.Quote["USD"]
			want := map[string]market.Decimal{
				"price": q.Price, "market_cap": q.MarketCap, "volume_24h": q.Volume24h, "percent_change_1h": q.PercentChange1h,
				"percent_change_24h": q.PercentChange24h, "percent_change_7d": q.PercentChange7d,
				"fully_diluted_market_cap": q.FullyDiluted, "market_cap_dominance": q.Dominance,
			}
			for name, d := range want {
				if got := decimal(t, usd[name]); got != d {
					t.Fatalf("coin %d %s: text %s, batch %v", r.ID, name, usd[name], d)
				}
			}
			same := decimal(t, r.Circulating) == q.CirculatingSupply && decimal(t, r.Total) == q.TotalSupply &&
				decimal(t, r.Max) == q.MaxSupply && decimal(t, r.SelfSupply) == q.SelfReportedSupply && decimal(t, r.SelfCap) == q.SelfReportedCap
			if !same || r.ID != q.ID || r.Rank != q.Rank || r.Symbol != q.Info.Symbol || q.Flags != market.FlagSimulated ||
				r.Updated != string(q.SourceTime.AppendRFC3339(nil)) {
				t.Fatalf("row %+v, quote %+v", r, *q)
			}
		}
	}
	f(Config{Seed: 7})
	f(Config{Seed: 7, Digits: DigitsCompact})
	f(Config{Seed: 8, Dirt: 0.5, Tokens: 2000})
	f(Config{Seed: 9, Tick: market.Hour, Tokens: 1})
}

func TestBatchReusesInfoAndQuotes(t *testing.T) {
	m := newTestMarket(t, Config{Seed: 1})
	a, b, c := m.Batch(noon), m.Batch(noon+999), m.Batch(noon+1000)
	if &a.Quotes[0] != &b.Quotes[0] || b.ReceivedAt != noon+999 || &a.Quotes[0] == &c.Quotes[0] {
		t.Fatal("a tick must share its quotes, and only that")
	}
	infos := make(map[market.ID]*market.Info)
	for _, q := range a.Quotes {
		infos[q.ID] = q.Info
	}
	for _, q := range c.Quotes {
		if infos[q.ID] != q.Info {
			t.Fatalf("coin %d got a new info", q.ID)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	now := (&clock{}).Now
	f := func(cfg Config, want string) {
		t.Helper()
		_, err := New(cfg)
		if err == nil || err.Error() != want {
			t.Fatalf("got %v, want %s", err, want)
		}
	}
	f(Config{}, "cannot use Now nil: want a clock")
	f(Config{Now: now, Tokens: -1}, "cannot use Tokens -1: want 1 to 100000")
	f(Config{Now: now, Tokens: 100_001}, "cannot use Tokens 100001: want 1 to 100000")
	f(Config{Now: now, Tick: 1}, "cannot use Tick 1ms: want 20ms to 1h")
	f(Config{Now: now, Dirt: 1.5}, "cannot use Dirt 1.5: want 0 to 1")
	f(Config{Now: now, Faults: -1}, "cannot use Faults -1: want 0 to 1")
	f(Config{Now: now, Digits: 9}, "cannot use Digits 9: want full or compact")
	f(Config{Now: now, AddressLimit: -1}, "cannot use AddressLimit -1: want 1 or more")
	f(Config{Now: now, Keys: []Key{{Plan: Unlimited}}}, "cannot use Keys[0] value: want 1 to 128 bytes")
	f(Config{Now: now, Keys: []Key{{Value: "a"}}}, "cannot use Keys[0] plan: want a plan of Plans or one with a name")
	f(Config{Now: now, Dirt: -1, Tokens: -1}, "cannot use Tokens -1: want 1 to 100000\ncannot use Dirt -1: want 0 to 1")
}

func TestParseDigits(t *testing.T) {
	f := func(name string, want Digits, ok bool) {
		t.Helper()
		if got, err := ParseDigits(name); got != want || (err == nil) != ok {
			t.Fatalf("%q: got %v, %v", name, got, err)
		}
	}
	f("", DigitsFull, true)
	f("full", DigitsFull, true)
	f("compact", DigitsCompact, true)
	f("both", 0, false)
}

func TestNumbersAsTheRealAPIPrintsThem(t *testing.T) {
	f := func(d market.Decimal, want string) {
		t.Helper()
		got := appendNumber(nil, d)
		if string(got) != want {
			t.Fatalf("got %s, want %s", got, want)
		}
		if back, _, err := market.ParseDecimal(got); !d.IsNull() && (err != nil || back != d) {
			t.Fatalf("%s reads as %v, %v", got, back, err)
		}
	}
	f(market.NewDecimal(6315931, -14), "6.315931e-8")
	f(market.NewDecimal(-1, -7), "-1e-7")
	f(market.NewDecimal(1, -6), "0.000001")
	f(market.NewDecimal(19538149, -13), "0.0000019538149")
	f(market.NewDecimal(1, -60), "1e-60")
	f(market.NewDecimal(123456789012345678, -100), "1.23456789012345678e-83")
	f(market.Decimal{}, "0")
	f(market.Null, "null")
	f(market.NewDecimal(21, 6), "21000000")

	digits := func(d market.Decimal, n int) {
		t.Helper()
		if d.Digits() > n {
			t.Fatalf("%v has more than %d digits", d, n)
		}
	}
	for i := range uint64(2000) {
		x := between(mix(i), -30, 30)
		v := between(mix(i+1e6), 1, 10)
		for range int(x) {
			v *= 10
		}
		for range int(-x) {
			v /= 10
		}
		digits(noisy(v), 17)
		digits(DigitsCompact.price(v), 8)
		digits(DigitsCompact.total(v), 6)
		if x > -20 {
			if got := noisy(v).Float(); got < v*(1-1e-14) || got > v*(1+1e-14) {
				t.Fatalf("noisy(%g) = %g", v, got)
			}
		}
	}
}
