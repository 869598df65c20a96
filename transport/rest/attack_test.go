package rest

import (
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// junk is what no parameter of any route takes, raw as in a URL.
var junk = []string{
	"", "%", "%zz", "%f", "%00", "a%00b", "%0d%0aX:%201", "%c0%ae", "%ff", "%ed%a0%80", "%e2%80%a8", "%7f", "%c2%85",
	"%EF%BC%91", "%D9%A1", // full-width and Arabic digits
	"'%20OR%201=1--", "%3Cscript%3E", "%24%7Bjndi%7D", "%7B%7B7*7%7D%7D", "..%2f..%2fetc%2fpasswd", "%26%26", "null%00", "%F0%9F%98%80",
	strings.Repeat("9", 1500),
}

// numberJunk is what no number takes.
var numberJunk = []string{
	"NaN", "Infinity", "-Infinity", "Inf", "0x10", "1e400", "1e-400", "%2B1", "+1", "1+", "%201", "1%20", "1,5", "1_000", "01", "--1", "1.", ".5",
	"1e", "true", "null", "[]", "99999999999999999999999999",
}

// integerJunk is what no whole number takes.
var integerJunk = []string{"1.0", "1.5", "1e2", "-0", "-1", "9223372036854775808"}

// attack sends one query and wants a 400 that names the parameter.
func (w *world) attack(path, param, query string) {
	w.t.Helper()
	r := w.get(path + "?" + query)
	if r.status != 400 {
		w.t.Errorf("%s?%.80s: got %d %.120s", path, query, r.status, r.body)
		return
	}
	var p struct {
		Code, Detail, Remediation, Instance, Type, Title string
		Status                                           int
		Errors                                           []struct{ Param, Reason string }
	}
	if err := json.Unmarshal([]byte(r.body), &p); err != nil {
		w.t.Errorf("%s?%.80s: %v in %.200s", path, query, err, r.body)
		return
	}
	if p.Code != "invalid_parameter" || p.Status != 400 || p.Remediation == "" || p.Instance == "" || p.Type != "/problems/invalid_parameter" ||
		len(p.Errors) == 0 || p.Errors[0].Reason == "" || p.Detail == "" || p.Title == "" {
		w.t.Errorf("%s?%.80s: incomplete problem %s", path, query, r.body)
	}
	for _, e := range p.Errors {
		if e.Param == param {
			return
		}
	}
	w.t.Errorf("%s?%.80s: no complaint about %q in %s", path, query, param, r.body)
}

// everyAttack runs what holds for any parameter; good is a value that it takes.
func (w *world) everyAttack(path, param, good string) {
	w.t.Helper()
	if r := w.get(path + "?" + param + "=" + good); r.status != 200 {
		w.t.Errorf("%s?%s=%s: got %d %s", path, param, good, r.status, r.body)
	}
	for _, value := range junk {
		if param == "search" && !strings.Contains(value, "%00") && value != "" && len(value) < 100 {
			continue // nearly any text may be searched for
		}
		if (param == "symbols" || param == "search") && (strings.HasPrefix(value, "%E") || strings.HasPrefix(value, "%D") || strings.HasPrefix(value, "%F") || strings.ContainsAny(value, "'.{") || strings.HasPrefix(value, "%3C") || strings.HasPrefix(value, "%2") || strings.HasPrefix(value, "%7B")) {
			continue // a symbol is any text
		}
		w.attack(path, param, param+"="+value)
	}
	w.attack(path, param, param)
	w.attack(path, param, param+"="+good+"&"+param+"="+good)
	w.attack(path, param, param+"=&"+param+"="+good)
	w.attack(path, param+"[]", param+"[]="+good)
	w.attack(path, param+"[0]", param+"%5B0%5D="+good)
	w.attack(path, strings.ToUpper(param), strings.ToUpper(param)+"="+good)
	w.attack(path, param+" ", param+"+="+good)
	w.attack(path, "", param+"="+good+"&")
	w.attack(path, "", "&"+param+"="+good)
	w.attack(path, "nonsense", "nonsense=1&"+param+"="+good)
}

func (w *world) integerAttack(path, param string, lo, hi int) {
	w.t.Helper()
	w.everyAttack(path, param, strconv.Itoa(lo))
	for _, value := range append(append([]string{}, numberJunk...), integerJunk...) {
		w.attack(path, param, param+"="+value)
	}
	w.attack(path, param, param+"="+strconv.Itoa(lo-1))
	w.attack(path, param, param+"="+strconv.Itoa(hi+1))
	for _, n := range []int{lo, hi} {
		if r := w.get(path + "?" + param + "=" + strconv.Itoa(n)); r.status != 200 {
			w.t.Errorf("%s?%s=%d: got %d %s", path, param, n, r.status, r.body)
		}
	}
	if r := w.get(path + "?" + param + "=" + strconv.Itoa(hi+1)); !strings.Contains(r.body, "from "+strconv.Itoa(lo)+" to "+strconv.Itoa(hi)) {
		w.t.Errorf("%s?%s: the answer does not tell the range: %s", path, param, r.body)
	}
}

func (w *world) decimalAttack(path, param, limit string) {
	w.t.Helper()
	w.everyAttack(path, param, "0")
	for _, value := range numberJunk {
		w.attack(path, param, param+"="+value)
	}
	w.attack(path, param, param+"=-1")
	w.attack(path, param, param+"=-0.000001")
	w.attack(path, param, param+"="+limit+".1")
	w.attack(path, param, param+"=1."+strings.Repeat("0", 100))
	for _, good := range []string{"0", "0.5", "1e3", "1E2", limit} {
		if r := w.get(path + "?" + param + "=" + good); r.status != 200 {
			w.t.Errorf("%s?%s=%s: got %d %s", path, param, good, r.status, r.body)
		}
	}
}

func (w *world) choiceAttack(path, param string, allowed ...string) {
	w.t.Helper()
	w.everyAttack(path, param, allowed[0])
	for _, value := range append([]string{"x", strings.ToUpper(allowed[0]), allowed[0] + "%20", allowed[0] + "," + allowed[0] + "x", "0", "1"}, numberJunk...) {
		if slices.Contains(allowed, value) {
			continue
		}
		w.attack(path, param, param+"="+value)
	}
	for _, value := range allowed {
		if r := w.get(path + "?" + param + "=" + value); r.status != 200 {
			w.t.Errorf("%s?%s=%s: got %d %s", path, param, value, r.status, r.body)
		}
	}
	if r := w.get(path + "?" + param + "=x"); !strings.Contains(r.body, strings.Join(allowed, ", ")) {
		w.t.Errorf("%s?%s: the answer does not tell the choices: %s", path, param, r.body)
	}
}

func TestAttackTokens(t *testing.T) {
	w := serve(t, Config{}, sample())
	const path = "/api/v1/tokens"
	w.integerAttack(path, "start", 1, 1_000_000)
	w.integerAttack(path, "limit", 1, 1000)
	w.choiceAttack(path, "sort", sortNames...)
	w.choiceAttack(path, "order", "asc", "desc")
	w.choiceAttack(path, "flagged", "true", "false")
	w.choiceAttack(path, "cap_class", "large", "mid", "small", "micro")
	for _, name := range []string{"market_cap_min", "market_cap_max", "volume_24h_min", "volume_24h_max"} {
		w.decimalAttack(path, name, "1000000000000000000")
	}
	w.decimalAttack(path, "velocity_min", "1000000")
	w.decimalAttack(path, "velocity_max", "1000000")
	w.attack(path, "market_cap_min", "market_cap_min=2&market_cap_max=1")
	w.attack(path, "volume_24h_min", "volume_24h_min=2&volume_24h_max=1.9")
	w.attack(path, "velocity_min", "velocity_min=1e1&velocity_max=9")
}

func TestAttackLists(t *testing.T) {
	w := serve(t, Config{}, sample())
	const path = "/api/v1/tokens"
	w.everyAttack(path, "ids", "1")
	for _, value := range append([]string{"0", "4294967296", "1,", ",1", "1,,2", "1,%202", "1;2", "btc"}, numberJunk...) {
		if value == "1,5" {
			continue // that is a list
		}
		w.attack(path, "ids", "ids="+value)
	}
	w.attack(path, "ids", "ids="+strings.Repeat("1,", 500)+"1")
	if r := w.get(path + "?ids=" + strings.Repeat("1,", 499) + "1"); r.status != 200 || !strings.Contains(r.body, `"total":1,`) {
		t.Errorf("500 equal ids: got %d %s", r.status, r.body)
	}
	w.everyAttack(path, "symbols", "btc")
	w.attack(path, "symbols", "symbols=a,,b")
	w.attack(path, "symbols", "symbols="+strings.Repeat("x", 65))
	w.attack(path, "symbols", "symbols="+strings.Repeat("x,", 500)+"x")
	w.everyAttack(path, "search", "bit")
	w.attack(path, "search", "search="+strings.Repeat("x", 65))
	w.attack(path, "search", "search=+++")
	w.everyAttack(path, "fields", "price")
	for _, value := range []string{"price,price", "Price", "price,", "x", "velocity_trend.2h", strings.Repeat("price,", 300) + "price"} {
		w.attack(path, "fields", "fields="+value)
	}
}

func TestAttackOtherRoutes(t *testing.T) {
	w := serve(t, Config{}, sample())
	w.choiceAttack("/api/v1/tokens/1", "range", rangeNames...)
	w.choiceAttack("/api/v1/tokens/1", "detail", "basic", "full")
	w.everyAttack("/api/v1/tokens/1", "fields", "price")
	w.choiceAttack("/api/v1/movers", "period", "1h", "4h", "12h", "24h", "7d")
	w.choiceAttack("/api/v1/movers", "direction", "up", "down", "both")
	w.integerAttack("/api/v1/movers", "limit", 1, 100)
	for _, path := range []string{"/api/v1/market", "/api/v1/schema", "/api/v1/tokens/1/velocity", "/healthz", "/readyz", "/version"} {
		w.attack(path, "x", "x=1")
		w.attack(path, "limit", "limit=1")
	}
}

func TestAttackHistory(t *testing.T) {
	w := serve(t, Config{}, sample())
	const path = "/api/v1/tokens/1/history"
	w.choiceAttack(path, "range", rangeNames...)
	w.choiceAttack(path, "granularity", granularityNames...)
	w.integerAttack(path, "limit", 1, 10_000)
	w.everyAttack(path, "fields", "price,velocity")
	w.attack(path, "fields", "fields=price,price")
	w.attack(path, "fields", "fields=rank")
	w.everyAttack(path, "from", "1763661000000")
	for _, value := range append([]string{
		"-1", "253402300800000", "2026-11-20", "2026-11-20T18:00:00", "2026-13-01T00:00:00Z", "2026-11-20T18:00:00+01:00",
		"1969-12-31T23:59:59Z", "yesterday", "1763661000.5", "1e12",
	}, numberJunk...) {
		w.attack(path, "from", "from="+value)
		w.attack(path, "to", "from=0&to="+value)
	}
	w.attack(path, "from", "to=1763661000000")
	w.attack(path, "from", "from=1763661000000&to=1763661000000")
	w.attack(path, "from", "from=1763661000001&to=1763661000000")
	w.attack(path, "from", "from=1763661700000")
	w.attack(path, "range", "range=1h&from=1763661000000")
	for _, value := range []string{"x", "AAAA", strings.Repeat("A", 44), strings.Repeat("A", 58), strings.Repeat("A", 60), "%00"} {
		w.attack(path, "cursor", "cursor="+value)
	}
	for _, good := range []string{"from=0&to=1000", "from=0&to=1763661000000", "from=0", "from=0&granularity=1m", "from=2025-11-20T18:00:00Z", "from=2025-11-20T18:00:00.000%2B01:00", "from=1763661000000&to=2025-11-20T20:00:00Z"} {
		if r := w.get(path + "?" + good); r.status != 200 {
			t.Errorf("%s: got %d %s", good, r.status, r.body)
		}
	}
}

func TestTokenPathForms(t *testing.T) {
	w := serve(t, Config{}, sample())
	f := func(token string, status int, code string) {
		t.Helper()
		for _, tail := range []string{"", "/velocity", "/history"} {
			r := w.get("/api/v1/tokens/" + token + tail)
			if r.status != status || code != "" && !strings.Contains(r.body, `"code":"`+code+`"`) {
				t.Errorf("%.60s%s: got %d %.200s", token, tail, r.status, r.body)
			}
		}
	}
	f("1", 200, "")
	f("btc-coin", 200, "")
	f("eth-coin", 200, "")
	f("99", 404, "token_not_found")
	f("4294967295", 404, "token_not_found")
	f("bitcoin", 404, "token_not_found")
	f("BTC", 404, "token_not_found")
	f("-1", 404, "token_not_found")
	f("0", 400, "invalid_parameter")
	f("01", 400, "invalid_parameter")
	f("4294967296", 400, "invalid_parameter")
	f("9223372036854775808", 400, "invalid_parameter")
	f("99999999999999999999999", 400, "invalid_parameter")
	f("%62tc-coin", 400, "invalid_parameter")
	f("a,b", 400, "invalid_parameter")
	f("live/x", 404, "not_found")
	f("BTC'--", 400, "bad_path")
	f("%F0%9F%98%80", 400, "bad_path")
	f("%2e%2e", 400, "bad_path")
	f(strings.Repeat("a", 101), 400, "invalid_parameter")
	// Of two coins with one slug the lower id answers.
	if r := w.get("/api/v1/tokens/btc-coin?fields=id"); !strings.Contains(r.body, `"data":{"id":1}`) {
		t.Errorf("btc-coin: got %s", r.body)
	}
}

func TestUnknownPath(t *testing.T) {
	w := serve(t, Config{}, sample())
	r := w.get("/docs")
	if r.status != 404 || !strings.Contains(r.body, "/api/v1/tokens/{id}/history,") {
		t.Errorf("an unknown path: %d %s", r.status, r.body)
	}
	// Every path that the answer names is there.
	var p struct{ Remediation string }
	if err := json.Unmarshal([]byte(r.body), &p); err != nil {
		t.Fatal(err)
	}
	list, _ := strings.CutPrefix(p.Remediation, "use one of: ")
	for path := range strings.SplitSeq(list, ", ") {
		if r := w.get(strings.ReplaceAll(path, "{id}", "1")); r.status != 200 {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
}

func TestNamelessParameter(t *testing.T) {
	w := serve(t, Config{}, sample())
	for _, query := range []string{"limit=1&", "&limit=1", "limit=1&=2", "?"} {
		want := `"detail":"the name of a parameter is empty: remove the stray '\u0026' or '='"`
		if query == "?" {
			want = `"detail":"the parameter ? is not a parameter of this route`
		}
		if r := w.get("/api/v1/tokens?" + query); r.status != 400 || !strings.Contains(r.body, want) {
			t.Errorf("%s: got %d %s", query, r.status, r.body)
		}
	}
}

func FuzzParseArgs(f *testing.F) {
	for _, s := range []string{"", "limit=1&start=2", "limit=%31", "limit=1&limit=2", "a[]=1", "&", "=", "%", "sort=+", "ids=1,2", "search=%e2%80%a8", "market_cap_min=1e400"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		a := parseArgs(raw, listParams)
		q := parseList(a)
		if len(a.faults) > maxFaults {
			t.Fatalf("%d faults", len(a.faults))
		}
		if len(a.faults) > 0 {
			return
		}
		if q.limit < 1 || q.limit > maxLimit || q.start < 1 || q.start > maxStart || q.sort >= numSorts || len(q.ids) > maxItems {
			t.Fatalf("%q passed out of range: %+v", raw, q)
		}
		for name, value := range a.values {
			if value == "" || !clean(value) {
				t.Fatalf("%q: bad value %q of %q passed", raw, value, name)
			}
		}
		// The same question written canonically has the same key.
		again := url.Values{}
		for name, value := range a.values {
			again.Set(name, value)
		}
		b := parseArgs(again.Encode(), listParams)
		q2 := parseList(b)
		if len(b.faults) > 0 || q2.key() != q.key() {
			t.Fatalf("%q and %q differ: %v", raw, again.Encode(), b.faults)
		}
	})
}

func FuzzCursor(f *testing.F) {
	k := newCursorKey([]byte("secret"))
	f.Add(k.encode(cursor{1, 2, 3, 4}, "1?range=1h"), "1?range=1h")
	f.Add("AAAA", "")
	f.Fuzz(func(t *testing.T, text, question string) {
		c, ok := k.decode(text, question)
		if ok && k.encode(c, question) != text {
			t.Fatalf("%q is a second form of a cursor", text)
		}
	})
}

func TestCursorIsBound(t *testing.T) {
	k := newCursorKey([]byte("secret"))
	want := cursor{from: 1, to: 1 << 40, after: 77, granularity: market.Granularity5m}
	text := k.encode(want, "q")
	if got, ok := k.decode(text, "q"); !ok || got != want {
		t.Fatalf("got %+v %v", got, ok)
	}
	f := func(text, question string, key cursorKey) {
		t.Helper()
		if _, ok := key.decode(text, question); ok {
			t.Errorf("%q for %q accepted", text, question)
		}
	}
	f(text, "other", k)
	f(text, "q", newCursorKey([]byte("other")))
	f(text, "q", newCursorKey(nil))
	f(text[1:], "q", k)
	f(text+"A", "q", k)
	f(text+"=", "q", k)
	for i := range text {
		b := []byte(text)
		b[i] ^= 1
		f(string(b), "q", k)
	}
}
