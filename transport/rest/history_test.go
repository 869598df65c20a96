package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// bar makes a bar from five numbers.
func bar(open, high, low, last, mean string) market.Bar {
	return market.Bar{Open: dec(open), High: dec(high), Low: dec(low), Close: dec(last), Mean: dec(mean)}
}

var nullBar = bar("", "", "", "", "")

// past answers every question with f and remembers the questions.
func (w *world) remember(f func(q market.HistoryQuery) (*market.HistoryPage, error)) *[]market.HistoryQuery {
	asked := &[]market.HistoryQuery{}
	p := pastFunc(func(ctx context.Context, q market.HistoryQuery) (*market.HistoryPage, error) {
		if _, ok := ctx.Deadline(); !ok {
			w.t.Error("a history question without deadline")
		}
		*asked = append(*asked, q)
		return f(q)
	})
	w.past.Store(&p)
	return asked
}

func twoPoints(q market.HistoryQuery) (*market.HistoryPage, error) {
	a := market.Point{
		Time: noon - 123, Seq: 812, Count: 5, VWAP: dec("1.5"), Price: bar("1", "2", "0.5", "1.25", "1.1"),
		Cap: bar("9", "9", "9", "10", "9.5"), Volume: bar("", "", "", "3", "3"), Velocity: bar("0.1", "0.4", "0.1", "0.3", "0.2"),
		Flags: market.FlagStale | market.FlagSimulated,
	}
	b := market.Point{Time: noon + 877, Seq: 813, Count: 1, VWAP: market.Null, Price: nullBar, Cap: nullBar, Volume: nullBar, Velocity: nullBar}
	p := &market.HistoryPage{Points: []market.Point{a, b}, Gaps: []market.Gap{{From: 1000, To: 2000}}, DurableSeq: 811, Truncated: true}
	if q.After == 0 {
		p.Next = b.Time
	}
	return p, nil
}

// A token that is not tracked has its history all the same, where there is any.
func TestHistoryOfUntrackedTokens(t *testing.T) {
	w := serve(t, Config{}, sample())
	asked := w.remember(twoPoints)
	r := w.get("/api/v1/tokens/99/history?granularity=1h")
	if r.status != 200 || !strings.Contains(r.body, `{"id":99,"granularity":"1h"`) || len(*asked) != 1 || (*asked)[0].ID != 99 {
		t.Errorf("got %d %s", r.status, r.body)
	}
	w.remember(func(market.HistoryQuery) (*market.HistoryPage, error) { return &market.HistoryPage{}, nil })
	if r := w.get("/api/v1/tokens/98/history"); r.status != 404 || !strings.Contains(r.body, "history has nothing of it in this range") {
		t.Errorf("got %d %s", r.status, r.body)
	}
	if r := w.get("/api/v1/tokens/1/history?range=1h"); r.status != 200 {
		t.Errorf("got %d %s", r.status, r.body)
	}
}

// What damage has cost is a member of its own, and another answer than the whole one.
func TestHistoryLost(t *testing.T) {
	w := serve(t, Config{}, sample())
	tags := map[string]bool{}
	for _, lost := range [][]market.Gap{nil, {{From: 5, To: 9}}, {{From: 5, To: 9}, {From: 1000, To: 2000}}} {
		w.remember(func(q market.HistoryQuery) (*market.HistoryPage, error) {
			p, err := twoPoints(q)
			p.Lost = lost
			return p, err
		})
		r := w.get(fmt.Sprint("/api/v1/tokens/btc-coin/history?granularity=5m&from=0&limit=", 10+len(lost)))
		tags[r.header.Get("ETag")] = true
		want := `00.005Z","to":"1970-01-01T00:00:00.009Z"}`
		if n := strings.Count(r.body, `"lost":[{"from":"1970-01-01T00:00:`+want); r.status != 200 || n != min(len(lost), 1) || strings.Contains(r.body, `"lost":[]`) {
			t.Errorf("%v: got %d %s", lost, r.status, r.body)
		}
	}
	if len(tags) != 3 {
		t.Errorf("%d tags", len(tags))
	}
}

func TestHistoryBodies(t *testing.T) {
	w := serve(t, Config{}, sample())
	w.remember(twoPoints)
	f := func(target, accept, contentType, want string) {
		t.Helper()
		r := w.get("/api/v1/tokens/btc-coin/history?"+target, "Accept", accept)
		if r.status != 200 || r.header.Get("Content-Type") != contentType || !strings.Contains(r.body, want) {
			t.Errorf("%s: got %d %s\n%s\nwant\n%s", target, r.status, r.header.Get("Content-Type"), r.body, want)
		}
		if !strings.HasPrefix(r.header.Get("Link"), "</api/v1/tokens/1/history?") || !strings.HasSuffix(r.header.Get("Link"), `>; rel="next"`) {
			t.Errorf("%s: link %q", target, r.header.Get("Link"))
		}
	}
	const csv, ndjson = "text/csv; charset=utf-8; header=present", "application/x-ndjson"
	f("granularity=5m&from=1763661000000&to=1763662000000", "*/*", "application/json",
		`"data":{"id":1,"granularity":"5m","from":"2025-11-20T17:50:00.000Z","to":"2025-11-20T18:00:00.124Z","durable_seq":811,"truncated":true,`+
			`"points":[{"time":"2025-11-20T18:00:00.000Z","count":5,"price":{"open":1,"high":2,"low":0.5,"close":1.25,"mean":1.1,"vwap":1.5},`+
			`"market_cap":{"last":10,"mean":9.5},"volume_24h":{"last":3,"mean":3},"velocity":{"open":0.1,"high":0.4,"low":0.1,"close":0.3,"mean":0.2}},`+
			`{"time":"2025-11-20T18:00:01.000Z","count":1,"price":{"open":null,"high":null,"low":null,"close":null,"mean":null,"vwap":null},`+
			`"market_cap":{"last":null,"mean":null},"volume_24h":{"last":null,"mean":null},"velocity":{"open":null,"high":null,"low":null,"close":null,"mean":null}}],`+
			`"gaps":[{"from":"1970-01-01T00:00:01.000Z","to":"1970-01-01T00:00:02.000Z"}]},"pagination":{"limit":1000,"count":2,"next":"`)
	f("granularity=raw&range=1h", "*/*", "application/json",
		`"points":[{"time":"2025-11-20T18:00:00.000Z","seq":812,"price":1.25,"market_cap":10,"volume_24h":3,"velocity":0.3,"flags":["stale","simulated"]},`+
			`{"time":"2025-11-20T18:00:01.000Z","seq":813,"price":null,"market_cap":null,"volume_24h":null,"velocity":null,"flags":[]}]`)
	f("granularity=raw&fields=velocity", "*/*", "application/json", `"points":[{"time":"2025-11-20T18:00:00.000Z","seq":812,"velocity":0.3},`)
	f("granularity=raw", "text/csv", csv, "time,seq,price,market_cap,volume_24h,velocity,flags\r\n"+
		"2025-11-20T18:00:00.000Z,812,1.25,10,3,0.3,stale|simulated\r\n2025-11-20T18:00:01.000Z,813,,,,,\r\n")
	f("granularity=1h&fields=price,volume_24h", "text/csv", csv, "time,count,price_open,price_high,price_low,price_close,price_mean,price_vwap,volume_24h_last,volume_24h_mean\r\n"+
		"2025-11-20T18:00:00.000Z,5,1,2,0.5,1.25,1.1,1.5,3,3\r\n2025-11-20T18:00:01.000Z,1,,,,,,,,\r\n")
	f("granularity=raw&fields=price", ndjson, ndjson, "{\"time\":\"2025-11-20T18:00:00.000Z\",\"seq\":812,\"price\":1.25}\n{\"time\":\"2025-11-20T18:00:01.000Z\",\"seq\":813,\"price\":null}\n")
}

func TestHistoryQuestions(t *testing.T) {
	w := serve(t, Config{}, sample())
	asked := w.remember(func(market.HistoryQuery) (*market.HistoryPage, error) { return &market.HistoryPage{}, nil })
	const day = market.Time(market.Day)
	since := func(span market.Time, width market.Millis) market.Time { return alignDown(noon+1-span, width) }
	f := func(query string, from, to market.Time, g market.Granularity, limit int) {
		t.Helper()
		*asked = nil
		r := w.get("/api/v1/tokens/1/history?" + query)
		want := market.HistoryQuery{ID: 1, From: from, To: to, Granularity: g, Limit: limit}
		if r.status != 200 || len(*asked) != 1 || (*asked)[0] != want {
			t.Errorf("%s: got %d, asked %+v, want %+v", query, r.status, *asked, want)
		}
	}
	f("", since(day, 5*market.Minute), noon+1, market.Granularity5m, 1000)
	f("range=1h", since(day/24, market.Minute), noon+1, market.Granularity1m, 1000)
	f("range=7d", since(7*day, market.Hour), noon+1, market.Granularity1h, 1000)
	f("range=30d", since(30*day, 4*market.Hour), noon+1, market.Granularity4h, 1000)
	f("range=4h&granularity=raw&limit=7", noon+1-day/6, noon+1, market.GranularityRaw, 7)
	f("from=1763661000000", 1763661000000, noon+1, market.Granularity1m, 1000)
	f("from=1763661012345", 1763661000000, noon+1, market.Granularity1m, 1000)
	f("from=2025-11-20T17:50:00Z&to=1763661000001", 1763661000000, 1763661060000, market.Granularity1m, 1000)
	f("from=1&to=200000000000", 0, alignUp(200000000000, market.Day), market.Granularity1d, 1000)
	f("from=1763661000000&to=1763661600000&granularity=1d", alignDown(1763661000000, market.Day), noon+1, market.Granularity1d, 1000)
	f("from=1763661000001&to=1763661000002&granularity=raw", 1763661000001, 1763661000002, market.GranularityRaw, 1000)
	// What has not happened is not asked for, and "from" may be as early as it likes.
	f("from=1763661000000&to=2030-01-01T00:00:00Z", 1763661000000, noon+1, market.Granularity1m, 1000)
	f("from=2030-01-01T00:00:00Z&to=2030-01-01T00:01:00Z", 1893456000000, 1893456000000, market.Granularity1m, 1000)
	f("from=0", 0, noon+1, market.Granularity1d, 1000)
	f("from=0&granularity=raw", 0, noon+1, market.GranularityRaw, 1000)
}

func TestHistoryPaging(t *testing.T) {
	w := serve(t, Config{}, sample())
	asked := w.remember(twoPoints)
	const query = "/api/v1/tokens/1/history?range=24h&limit=2"
	next := func(target string) string {
		t.Helper()
		var e struct{ Pagination struct{ Next *string } }
		if err := json.Unmarshal([]byte(w.get(target).body), &e); err != nil {
			t.Fatal(err)
		}
		if e.Pagination.Next == nil {
			return ""
		}
		return *e.Pagination.Next
	}
	cursor := next(query)
	if cursor == "" {
		t.Fatal("no next page")
	}
	// Time goes on between the pages; the range must not.
	w.now.Store(int64(noon.Add(market.Hour)))
	if again := next(query + "&cursor=" + cursor); again != "" {
		t.Errorf("a page after the last: %s", again)
	}
	first, second := (*asked)[0], (*asked)[1]
	first.After = noon + 877
	if first.To != noon+1 {
		t.Errorf("asked up to %d, now is %d", first.To, noon)
	}
	if second != first {
		t.Errorf("asked %+v, want %+v", second, first)
	}
	// The Link header of the first page asks the same.
	link := w.get(query, "Accept", "text/csv").header.Get("Link")
	target, _, _ := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	if r := w.get(target); r.status != 200 || !strings.Contains(r.body, `"next":null`) {
		t.Errorf("%s: got %d %s", target, r.status, r.body)
	}
	for _, other := range []string{
		"/api/v1/tokens/2/history?range=24h&limit=2", "/api/v1/tokens/1/history?range=7d", "/api/v1/tokens/1/history?fields=price",
		"/api/v1/tokens/1/history?granularity=1h", "/api/v1/tokens/1/history?from=0&to=1000",
	} {
		w.attack(strings.Split(other, "?")[0], "cursor", strings.Split(other, "?")[1]+"&cursor="+cursor)
	}
}

func TestHistoryTrouble(t *testing.T) {
	w := serve(t, Config{HistoryQueries: 1}, sample())
	f := func(path string, status int, code string) {
		t.Helper()
		r := w.get("/api/v1/tokens/1" + path)
		if r.status != status || code != "" && (!strings.Contains(r.body, `"code":"`+code+`"`) || r.header.Get("Retry-After") == "") {
			t.Errorf("%s: got %d %v %s", path, r.status, r.header, r.body)
		}
	}
	w.remember(func(market.HistoryQuery) (*market.HistoryPage, error) { return nil, errors.New("disk on fire") })
	f("/history", 503, "history_unavailable")
	f("?detail=full", 503, "history_unavailable")
	f("/velocity", 200, "")
	w.remember(func(market.HistoryQuery) (*market.HistoryPage, error) {
		return nil, fmt.Errorf("cannot read: %w", context.DeadlineExceeded)
	})
	f("/history?range=1h", 503, "timeout")
	w.remember(func(market.HistoryQuery) (*market.HistoryPage, error) { panic("poisoned") })
	f("/history?range=4h", 500, "")
	w.remember(twoPoints)
	f("/history?range=12h", 200, "") // the panicking question gave its place back
	w.api.queries <- struct{}{}
	f("/history?range=7d", 503, "busy")
	f("/velocity", 200, "")
	<-w.api.queries
	w.api.cfg.History = nil
	f("/history?range=30d", 503, "history_unavailable")
}

func TestVelocityBody(t *testing.T) {
	b := sample()
	s := b.Token(5)
	s.Samples = 900
	s.Review = &market.Review{
		LevelReference: 0.08, StepLimit: [3]float64{0.0953, 0.0953, 0.4054651},
		Rejected: []market.Rejection{
			{Time: noon - 1000, Field: market.FieldVolume24h, Value: dec("9000000000000"), Rule: market.RuleLevel, Source: market.SourceCoinMarketCap},
			{Time: noon - 2000, Value: market.Null, Rule: market.RulePoll, Source: market.SourceCoinMarketCap},
		},
	}
	w := serve(t, Config{}, b)
	asked := w.remember(twoPoints)
	r := w.get("/api/v1/tokens/5/velocity")
	for _, want := range []string{
		`"data":{"id":5,"symbol":"XAUT","velocity":4.5,"velocity_method":null,"velocity_reason":null,"velocity_trend":{"1h":{`,
		`"flags":["outlier_volume"],"explain":{"inputs":{"price":4000,"market_cap":2000000000000,"volume_24h":9000000000000,"circulating_supply":null},"source":"coinmarketcap",` +
			`"rejected":[{"time":"2025-11-20T17:59:59.123Z","field":"volume_24h","value":9000000000000,"rule":"level","source":"coinmarketcap"},` +
			`{"time":"2025-11-20T17:59:58.123Z","field":null,"value":null,"rule":"poll","source":"coinmarketcap"}],` +
			`"rejected_kept":16,"thresholds":{"as_of":"2025-11-20T17:59:59.123Z","minimum_samples":8,` +
			`"level":{"state":"outlier","reference":0.08,"factor":10,"minimum":0.5,"limit":0.8},` +
			`"step":{"state":"watching","minimum":{"price":0.09531018,"market_cap":0.09531018,"volume_24h":0.4054651},` +
			`"limit":{"price":0.0953,"market_cap":0.0953,"volume_24h":0.4054651}}},"samples":900},` +
			`"series":[{"time":"2025-11-20T18:00:00.000Z","velocity":0.3},{"time":"2025-11-20T18:00:01.000Z","velocity":null}]}}`,
	} {
		if !strings.Contains(r.body, want) {
			t.Errorf("got\n%s\nwithout\n%s", r.body, want)
		}
	}
	from := alignDown(noon+1-market.Time(market.Day), 5*market.Minute)
	if q := (market.HistoryQuery{ID: 5, From: from, To: noon + 1, Granularity: market.Granularity5m, Limit: 289}); (*asked)[0] != q {
		t.Errorf("asked %+v, want %+v", (*asked)[0], q)
	}
}

func TestThresholds(t *testing.T) {
	nan := math.NaN()
	f := func(samples uint32, flags market.Flags, review *market.Review, want ...string) {
		t.Helper()
		s := flagged(snap(1, "BTC", "velocity=1"), flags)
		s.Samples, s.Review = samples, review
		got := string(appendExplain(nil, s))
		for _, part := range want {
			if !strings.Contains(got, part) {
				t.Errorf("%d samples, %v, %+v: got\n%s\nwithout %s", samples, flags, review, got, part)
			}
		}
	}
	review := func(rule market.Rule, ago market.Time) *market.Review {
		r := &market.Review{LevelReference: 0.01, StepLimit: [3]float64{0.2, 0.2, 0.5}}
		r.Rejected = []market.Rejection{
			{Time: noon - 10, Field: market.FieldMaxSupply, Rule: market.RuleRange}, {Time: noon - 1000 - ago, Field: market.FieldVolume24h, Rule: rule},
		}
		return r
	}
	const never = `"rejected":[],"rejected_kept":16,"thresholds":{"as_of":null,"minimum_samples":8,`
	f(7, 0, nil, never, `"level":{"state":"off","reference":null,"factor":10,"minimum":0.5,"limit":null},"step":{"state":"off","minimum":{`, `"limit":{"price":null,"market_cap":null,"volume_24h":null}}},"samples":7}`)
	f(8, 0, nil, never, `"level":{"state":"watching","reference":null,"factor":10,"minimum":0.5,"limit":null},"step":{"state":"watching","minimum":{`)
	// A level outlier is one while the value that is shown is rejected.
	const then = `"thresholds":{"as_of":"2025-11-20T17:59:59.123Z",`
	f(900, market.FlagOutlierVolume, review(market.RuleLevel, 0), then, `"level":{"state":"outlier","reference":0.01,"factor":10,"minimum":0.5,"limit":0.5},"step":{"state":"watching"`)
	f(900, 0, review(market.RuleLevel, 0), then, `"level":{"state":"watching","reference":0.01,`)
	f(900, market.FlagOutlierVolume, review(market.RuleStep, 0), then, `"level":{"state":"watching","reference":0.01,`)
	f(900, market.FlagOutlierVolume, review(market.RuleLevel, 1), `"as_of":"2025-11-20T17:59:59.122Z",`, `"level":{"state":"watching",`)
	// A value out of range says nothing about the limits.
	f(900, 0, &market.Review{LevelReference: nan, StepLimit: [3]float64{nan, nan, nan}, Rejected: []market.Rejection{{Time: noon, Rule: market.RuleRange}}},
		`"thresholds":{"as_of":null,`, `"reference":null,`)
}

func TestFullDetail(t *testing.T) {
	w := serve(t, Config{}, sample())
	w.remember(func(q market.HistoryQuery) (*market.HistoryPage, error) {
		p, _ := twoPoints(q)
		c := market.Point{Time: noon + 1877, Count: 15, Price: bar("1.25", "3", "1.25", "2.5", "2.1"), Cap: nullBar, Volume: nullBar, Velocity: nullBar}
		p.Points = append(p.Points, c)
		return p, nil
	})
	r := w.get("/api/v1/tokens/1?detail=full&range=1h")
	empty := `"points":0,"coverage":0}`
	for _, want := range []string{
		`"data":{"id":1,"symbol":"BTC"`, `"spread_bps":null},"history":{"range":"1h","granularity":"1m","from":"2025-11-20T17:00:00.000Z","to":"2025-11-20T18:00:00.124Z","durable_seq":811,`,
		`"price":{"min":0.5,"max":3,"mean":1.85,"open":1,"close":2.5,"points":2,"coverage":0.03}`,
		`"market_cap":{"min":10,"max":10,"mean":10,"open":10,"close":10,"points":1,"coverage":0.02}`,
		`"velocity":{"min":0.1,"max":0.4,"mean":0.2,"open":0.1,"close":0.3,"points":1,"coverage":0.02}}}}`,
	} {
		if !strings.Contains(r.body, want) {
			t.Errorf("got\n%s\nwithout\n%s", r.body, want)
		}
	}
	w.remember(func(market.HistoryQuery) (*market.HistoryPage, error) { return &market.HistoryPage{}, nil })
	if r := w.get("/api/v1/tokens/1?detail=full&range=4h&fields=id"); !strings.Contains(r.body, `"data":{"id":1,"history":{"range":"4h"`) || strings.Count(r.body, empty) != 4 {
		t.Errorf("empty history: %s", r.body)
	}
}

// Of any points, the summary's values are in order, and mean and extremes are of
// the same values.
func TestSummaryIsConsistent(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for range 300 {
		var points []market.Point
		var lasts []float64
		for range 1 + rng.IntN(20) {
			sum, n := 0.0, 1+rng.IntN(5)
			b := market.Bar{Low: market.FromInt(1 << 40), High: market.FromInt(0)}
			for i := range n {
				d := market.FromInt(1 + rng.Int64N(1000))
				if i == 0 {
					b.Open = d
				}
				if d.Cmp(b.Low) < 0 {
					b.Low = d
				}
				if d.Cmp(b.High) > 0 {
					b.High = d
				}
				b.Close = d
				sum += d.Float()
			}
			b.Mean = market.Significant(sum/float64(n), 8)
			totals := market.Bar{Open: market.Null, High: market.Null, Low: market.Null, Close: b.Close, Mean: b.Mean}
			points = append(points, market.Point{Count: uint32(n), Price: b, Velocity: b, Cap: totals, Volume: totals})
			lasts = append(lasts, b.Close.Float())
		}
		var got map[string]struct{ Min, Max, Mean, Open, Close float64 }
		body := strings.Replace(string(appendSummaries(nil, points, len(points))), ",", "{", 1) + "}"
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		for name, s := range got {
			if !(s.Min <= s.Mean && s.Mean <= s.Max && s.Min <= s.Open && s.Open <= s.Max && s.Min <= s.Close && s.Close <= s.Max) {
				t.Fatalf("%s: %+v of %+v", name, s, points)
			}
		}
		sum := 0.0
		for _, x := range lasts {
			sum += x
		}
		mean := market.Significant(sum/float64(len(lasts)), 12).Float()
		if s := got["market_cap"]; len(got) != 4 || s != got["volume_24h"] || s.Min != slices.Min(lasts) || s.Max != slices.Max(lasts) ||
			s.Mean != mean || s.Open != lasts[0] || s.Close != lasts[len(lasts)-1] {
			t.Fatalf("market_cap: %+v of %v", s, lasts)
		}
	}
}
