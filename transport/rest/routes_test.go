package rest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// envelope is a success as a client reads it.
type envelope struct {
	Status     string          `json:"status"`
	Timestamp  string          `json:"timestamp"`
	Meta       map[string]any  `json:"meta"`
	Data       json.RawMessage `json:"data"`
	Pagination map[string]any  `json:"pagination"`
	Missing    []any           `json:"missing"`
}

func (w *world) envelope(target string, data any) envelope {
	w.t.Helper()
	r := w.get(target)
	if r.status != 200 || r.header.Get("Content-Type") != "application/json" {
		w.t.Fatalf("%s: got %d %s %s", target, r.status, r.header.Get("Content-Type"), r.body)
	}
	var e envelope
	if err := json.Unmarshal([]byte(r.body), &e); err != nil {
		w.t.Fatalf("%s: %v in %s", target, err, r.body)
	}
	if err := json.Unmarshal(e.Data, data); err != nil {
		w.t.Fatalf("%s: %v in %s", target, err, e.Data)
	}
	return e
}

// ids lists the ids of a list answer in order.
func (w *world) ids(target string) string {
	w.t.Helper()
	var rows []struct{ ID int }
	w.envelope(target, &rows)
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "%d ", r.ID)
	}
	return strings.TrimSpace(b.String())
}

func TestEnvelope(t *testing.T) {
	w := serve(t, Config{Processing: func() time.Duration { return 412 * time.Microsecond }}, sample())
	r := w.get("/api/v1/tokens?limit=2&fields=id")
	want := `{"status":"success","timestamp":"2025-11-20T18:00:00.123Z","meta":{"source":"coinmarketcap","simulated":false,"epoch":"k3test",` +
		`"seq":813,"updated_at":"2025-11-20T17:59:59.283Z","age_ms":840,"freshness":"fresh","processing_ms":0.412},` +
		`"data":[{"id":1},{"id":2}],"pagination":{"total":7,"start":1,"limit":2,"next":3}}`
	if r.body != want {
		t.Errorf("got\n%s\nwant\n%s", r.body, want)
	}
	f := func(name, want string) {
		t.Helper()
		if got := r.header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	f("ETag", `W/"k3test-813-4"`)
	f("Age", "0")
	f("Content-Type", "application/json")
	f("X-Content-Type-Options", "nosniff")
	f("Server", "")
	if !strings.Contains(r.header.Get("Vary"), "Accept-Encoding") || r.header.Get("X-Request-Id") == "" || r.header.Get("Cache-Control") == "" {
		t.Errorf("headers: %v", r.header)
	}
}

func TestSorting(t *testing.T) {
	w := serve(t, Config{}, sample())
	f := func(query, want string) {
		t.Helper()
		if got := w.ids("/api/v1/tokens?fields=id&" + query); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
	// 6 is null everywhere; 5 and 7 are excluded and come after all others, 7 with nulls.
	f("limit=9", "1 2 3 4 6 5 7")
	f("sort=market_cap&order=asc", "4 3 2 1 6 5 7")
	f("sort=volume_24h", "1 2 4 3 6 5 7")
	f("sort=velocity", "2 1 4 3 6 5 7")
	f("sort=velocity&order=asc", "3 4 1 2 6 5 7")
	f("sort=price", "1 2 4 3 6 5 7")
	f("sort=rank", "1 2 3 4 6 5 7")
	f("sort=rank&order=desc", "4 3 2 1 6 5 7")
	f("sort=symbol", "3 1 4 2 6 7 5")
	f("sort=symbol&order=desc", "6 2 1 4 3 5 7")
	f("sort=velocity_change_1h", "1 4 2 3 6 5 7")
	f("sort=velocity_change_1h&order=asc", "2 4 1 3 6 5 7")
	f("sort=percent_change_1h", "2 1 3 4 6 5 7")
	f("sort=velocity_change_7d", "1 2 3 4 6 5 7")
	f("start=3&limit=2", "3 4")
	f("start=7", "7")
	f("start=8", "")
}

func TestFilters(t *testing.T) {
	w := serve(t, Config{}, sample())
	f := func(query, want string) {
		t.Helper()
		if got := w.ids("/api/v1/tokens?fields=id&" + query); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
	f("market_cap_min=5000000000", "1 2 3 5")
	f("market_cap_max=5000000000", "3 4")
	f("market_cap_min=50000000.01&market_cap_max=5e9", "3")
	f("volume_24h_min=0", "1 2 3 4 5")
	f("volume_24h_max=0", "3")
	f("velocity_min=0.05", "2 5")
	f("velocity_max=0.000018", "3 4")
	f("cap_class=large", "1 2 5")
	f("cap_class=mid", "3")
	f("cap_class=small", "")
	f("cap_class=micro", "4")
	f("cap_class=mid,micro", "3 4")
	f("ids=4,1,4", "1 4")
	f("ids=4,99", "4")
	f("symbols=btc", "1 4")
	f("symbols=BTC,ABC", "1 3 4")
	f("symbols=aBc", "3")
	f("search=BTC", "1 4")
	f("search=c+coin", "1 3 4")
	f("search=th-co", "2")
	f("search=zzz", "")
	f("flagged=true", "5 7")
	f("flagged=false", "1 2 3 4 6")
	f("flagged=true&velocity_min=1", "5")
	f("ids=1,2,3&symbols=eth,abc&search=a", "3")
}

func TestMissing(t *testing.T) {
	w := serve(t, Config{}, sample())
	f := func(query, want string) {
		t.Helper()
		var rows []any
		if got := fmt.Sprint(w.envelope("/api/v1/tokens?"+query, &rows).Missing); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
	f("ids=1", "[]")
	f("ids=99,1,98", "[98 99]")
	f("symbols=btc,doge,%22", `[" DOGE]`)
	f("ids=1&symbols=eth", "[]")
}

func TestPagination(t *testing.T) {
	w := serve(t, Config{}, sample())
	f := func(query, want string) {
		t.Helper()
		r := w.get("/api/v1/tokens?fields=id&" + query)
		if !strings.Contains(r.body, `"pagination":`+want) {
			t.Errorf("%s: got %s", query, r.body)
		}
	}
	f("limit=7", `{"total":7,"start":1,"limit":7,"next":null}`)
	f("limit=6", `{"total":7,"start":1,"limit":6,"next":7}`)
	f("start=7&limit=1", `{"total":7,"start":7,"limit":1,"next":null}`)
	f("start=8", `{"total":7,"start":8,"limit":100,"next":null}`)
	f("symbols=btc&limit=1", `{"total":2,"start":1,"limit":1,"next":2}`)
	f("symbols=none", `{"total":0,"start":1,"limit":100,"next":null}`)
	// Walking by next meets every token once.
	seen, start := "", "1"
	for range 20 {
		r := w.get("/api/v1/tokens?fields=id&limit=2&start=" + start)
		var e struct {
			Data       []struct{ ID int }
			Pagination struct{ Next *int }
		}
		if err := json.Unmarshal([]byte(r.body), &e); err != nil {
			t.Fatal(err)
		}
		for _, d := range e.Data {
			seen += fmt.Sprint(d.ID, " ")
		}
		if e.Pagination.Next == nil {
			break
		}
		start = fmt.Sprint(*e.Pagination.Next)
	}
	if seen != "1 2 3 4 6 5 7 " {
		t.Errorf("walked %s", seen)
	}
}

func TestMarket(t *testing.T) {
	b := sample()
	xaut := b.Token(5)
	xaut.AcceptedCap, xaut.AcceptedVolume = dec("1000000000000"), dec("500000000")
	all := []*market.Snapshot{}
	for s := range b.All {
		all = append(all, s)
	}
	w := serve(t, Config{}, boardOf(1, all...))
	var m struct {
		Tokens    int
		MarketCap float64 `json:"market_cap"`
		Volume24h float64 `json:"volume_24h"`
		Velocity  float64
		Dominance []struct{ ID, Pct any }
		Breadth   map[string]map[string]int
		Flags     map[string]int
		Freshness map[string]int
	}
	w.envelope("/api/v1/market", &m)
	if m.Tokens != 7 || m.MarketCap != 3_275_050_000_000 || m.Volume24h != 90_500_000_900 || m.Velocity != 0.027633166 {
		t.Errorf("totals: %+v", m)
	}
	if got := fmt.Sprint(m.Dominance); got != "[{1 58.0144} {5 30.5339} {2 11.2975} {3 0.1527} {4 0.0015}]" {
		t.Errorf("dominance: %s", got)
	}
	if got := fmt.Sprint(m.Breadth["1h"], len(m.Breadth)); got != "map[decreasing:1 increasing:1 insufficient:5 stable:0] 5" {
		t.Errorf("breadth: %s", got)
	}
	if m.Flags["outlier_volume"] != 1 || m.Flags["quarantined"] != 1 || m.Flags["stale"] != 1 || m.Flags["frozen"] != 0 || len(m.Flags) != market.NumFlags {
		t.Errorf("flags: %v", m.Flags)
	}
	if got := fmt.Sprint(m.Freshness); got != "map[aging:0 fresh:7 stale:0]" {
		t.Errorf("freshness: %s", got)
	}
}

func TestEmptyMarket(t *testing.T) {
	w := serve(t, Config{}, boardOf(1))
	for _, path := range []string{"/market", "/movers", "/tokens", "/schema"} {
		if r := w.get("/api/v1" + path); r.status != 200 || !json.Valid([]byte(r.body)) {
			t.Errorf("%s: got %d %s", path, r.status, r.body)
		}
	}
	if r := w.get("/api/v1/market"); !strings.Contains(r.body, `"velocity":null,"dominance":[]`) {
		t.Errorf("got %s", r.body)
	}
}

func TestMovers(t *testing.T) {
	w := serve(t, Config{}, sample())
	f := func(query, up, down string) {
		t.Helper()
		var m struct {
			Period   string
			Up, Down []struct{ ID int }
		}
		w.envelope("/api/v1/movers?"+query, &m)
		if fmt.Sprint(m.Up) != up || fmt.Sprint(m.Down) != down {
			t.Errorf("%s: got %v %v, want %s %s", query, m.Up, m.Down, up, down)
		}
	}
	f("", "[{1}]", "[{2}]")
	f("period=1h&limit=1&direction=both", "[{1}]", "[{2}]")
	f("direction=up", "[{1}]", "[]")
	f("direction=down", "[]", "[{2}]")
	f("period=7d", "[]", "[]")
	if r := w.get("/api/v1/movers?direction=down"); !strings.Contains(r.body, `"down":[{"id":2,"symbol":"ETH"`) || !strings.Contains(r.body, `"provenance"`) {
		t.Errorf("movers are not whole tokens: %s", r.body)
	}
}

func TestSchema(t *testing.T) {
	w := serve(t, Config{}, sample())
	var s struct {
		Version int
		Fields  []struct {
			ID    int
			Name  string
			Type  string
			Unit  *string
			Scale *int
			Views []string
		}
		Flags []string
		Enums map[string][]*string
	}
	w.envelope("/api/v1/schema", &s)
	if s.Version != 1 || len(s.Fields) != market.NumFields || len(s.Flags) != market.NumFlags {
		t.Fatalf("got %+v", s)
	}
	price := s.Fields[0]
	if price.ID != 1 || price.Name != "price" || price.Type != "decimal" || *price.Unit != "USD" || price.Scale != nil || fmt.Sprint(price.Views) != "[quote velocity full]" {
		t.Errorf("price: %+v", price)
	}
	if v := s.Fields[6]; v.Name != "velocity" || *v.Scale != -9 {
		t.Errorf("velocity: %+v", v)
	}
	if e := s.Enums["velocity_direction_7d"]; len(e) != int(market.NumDirections) || *e[2] != "increasing" {
		t.Errorf("directions: %v", e)
	}
	if e := s.Enums["velocity_method"]; e[0] != nil || *e[1] != "reported_cap" {
		t.Errorf("methods: %v", e)
	}
}

func TestNotReady(t *testing.T) {
	w := serve(t, Config{}, nil)
	for _, path := range []string{"/tokens", "/tokens/1", "/tokens/1/velocity", "/tokens/1/history", "/market", "/movers"} {
		r := w.get("/api/v1" + path)
		if r.status != 503 || r.header.Get("Retry-After") == "" || !strings.Contains(r.body, `"code":"not_ready"`) ||
			r.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: got %d %v %s", path, r.status, r.header, r.body)
		}
	}
	f := func(status int, want string) {
		t.Helper()
		if r := w.get("/readyz"); r.status != status || r.body != want {
			t.Errorf("got %d %s, want %d %s", r.status, r.body, status, want)
		}
	}
	w.gates = []Gate{{Name: "store", OK: true}}
	f(503, `{"status":"not_ready","gates":[{"name":"store","ok":true,"detail":""}]}`)
	w.board.Store(sample())
	f(200, `{"status":"ready","gates":[{"name":"store","ok":true,"detail":""}]}`)
	w.gates = []Gate{{Name: "upstream", Detail: "no answer since 18:00"}}
	f(200, `{"status":"degraded","gates":[{"name":"upstream","ok":false,"detail":"no answer since 18:00"}]}`)
	w.gates = []Gate{{Name: "drain", Detail: "shutting down", Fatal: true}}
	f(503, `{"status":"not_ready","gates":[{"name":"drain","ok":false,"detail":"shutting down"}]}`)
	if r := w.get("/healthz"); r.status != 200 || r.body != `{"status":"ok"}` {
		t.Errorf("healthz: %d %s", r.status, r.body)
	}
	if r := w.get("/version"); r.status != 200 || r.body != `{"name":"velocimeter","version":"0.1.0","commit":null,"built":null,"go":"go1.26"}` {
		t.Errorf("version: %d %s", r.status, r.body)
	}
}

func TestMethods(t *testing.T) {
	w := serve(t, Config{}, sample())
	for _, path := range []string{"/api/v1/tokens", "/api/v1/tokens/1", "/api/v1/tokens/1/history", "/api/v1/market", "/healthz"} {
		get, head := w.get(path), w.do("HEAD", path)
		if head.status != 200 || head.body != "" || head.header.Get("Content-Length") != get.header.Get("Content-Length") || head.header.Get("ETag") != get.header.Get("ETag") {
			t.Errorf("HEAD %s: got %d %v", path, head.status, head.header)
		}
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
			if r := w.do(method, path); r.status != 405 || r.header.Get("Allow") != "GET, HEAD, OPTIONS" || !strings.Contains(r.body, `"code":"method_not_allowed"`) {
				t.Errorf("%s %s: got %d %v %s", method, path, r.status, r.header, r.body)
			}
		}
		if r := w.do("OPTIONS", path); r.status != 204 || r.body != "" || r.header.Get("Allow") != "GET, HEAD, OPTIONS" {
			t.Errorf("OPTIONS %s: got %d %v", path, r.status, r.header)
		}
	}
	for _, path := range []string{"/api/v1/tokens/", "/api/v1", "/api/v1/tokens/1/x", "/API/v1/tokens", "/healthz/"} {
		if r := w.get(path); r.status != 404 || !strings.Contains(r.body, `"code":"not_found"`) {
			t.Errorf("%s: got %d %s", path, r.status, r.body)
		}
	}
}
