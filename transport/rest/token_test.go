package rest

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/velocimeter/velocimeter/engine/market"
)

func TestAppendTokenGolden(t *testing.T) {
	s := snap(1, "BTC", "price=97123.45", "market_cap=1900000000000", "volume_24h=60000000000", "percent_change_1h=-0.5",
		"velocity=0.0517", "velocity_method=1", "velocity_direction_1h=2", "velocity_change_1h=3.1", "velocity_slope_1h=0.000000001",
		"velocity_coverage_1h=0.98", "vwap_24h=97000.1", "volatility_24h=0.5", "circulating_supply=19000000", "rank=1",
		"dominance_pct=58.1", "spread_bps=")
	none := `{"direction":"insufficient","change_pct":null,"slope_per_hour":null,"coverage":null}`
	want := `{"id":1,"symbol":"BTC","name":"Btc Coin","slug":"btc-coin","rank":1,"cap_class":"large","updated_at":"2025-11-20T17:59:59.123Z",` +
		`"freshness":"fresh","links":{"history":"/api/v1/tokens/1/history"},"price":97123.45,"market_cap":1900000000000,` +
		`"volume_24h":60000000000,"circulating_supply":19000000,"total_supply":null,"max_supply":null,"fully_diluted_market_cap":null,` +
		`"dominance_pct":58.1,"percent_change":{"1h":-0.5,"24h":null,"7d":null},"velocity":0.0517,"velocity_method":"reported_cap",` +
		`"velocity_reason":null,"velocity_trend":{"1h":{"direction":"increasing","change_pct":3.1,"slope_per_hour":0.000000001,"coverage":0.98},` +
		`"4h":` + none + `,"12h":` + none + `,"24h":` + none + `,"7d":` + none + `},"vwap":{"1h":null,"24h":97000.1,"7d":null},` +
		`"volatility_24h":0.5,"flags":[],"provenance":{"source":"coinmarketcap","source_time":"2025-11-20T17:59:59.123Z",` +
		`"received_at":"2025-11-20T17:59:59.923Z","agreeing_sources":1,"spread_bps":null}}`
	if got := string(AppendToken(nil, s)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestTokenPaths walks the object by the dots of engine/FIELDS.md: every field of the
// schema is where its REST path says.
func TestTokenPaths(t *testing.T) {
	var object any
	if err := json.Unmarshal(AppendToken(nil, snap(9, "X")), &object); err != nil {
		t.Fatal(err)
	}
	for _, s := range market.Specs() {
		at := object
		for part := range strings.SplitSeq(s.REST, ".") {
			m, _ := at.(map[string]any)
			v, ok := m[part]
			if !ok {
				t.Errorf("field %s: no member %q of path %q", s.Name, part, s.REST)
			}
			at = v
		}
	}
}

func TestSelection(t *testing.T) {
	s := snap(1, "BTC", "price=2", "velocity_change_4h=5")
	f := func(fields, want string) {
		t.Helper()
		sel, ok := parseSelection(strings.Split(fields, ","))
		if !ok {
			t.Fatalf("%q refused", fields)
		}
		if got := string(appendToken(nil, s, sel)); got != want {
			t.Errorf("%q: got %s, want %s", fields, got, want)
		}
	}
	f("id", `{"id":1}`)
	f("price", `{"id":1,"price":2}`)
	f("symbol,price", `{"id":1,"symbol":"BTC","price":2}`)
	f("velocity_change_4h", `{"id":1,"velocity_trend":{"4h":{"change_pct":5}}}`)
	f("velocity_trend.4h.change_pct", `{"id":1,"velocity_trend":{"4h":{"change_pct":5}}}`)
	f("velocity_trend.4h", `{"id":1,"velocity_trend":{"4h":{"direction":"insufficient","change_pct":5,"slope_per_hour":null,"coverage":null}}}`)
	f("percent_change", `{"id":1,"percent_change":{"1h":null,"24h":null,"7d":null}}`)
	f("percent_change.7d", `{"id":1,"percent_change":{"7d":null}}`)
	f("vwap_1h,vwap.7d", `{"id":1,"vwap":{"1h":null,"7d":null}}`)
	f("provenance.received_at", `{"id":1,"provenance":{"received_at":"2025-11-20T17:59:59.923Z"}}`)
	f("source", `{"id":1,"provenance":{"source":"coinmarketcap"}}`)
	f("links", `{"id":1,"links":{"history":"/api/v1/tokens/1/history"}}`)
	f("cap_class", `{"id":1,"cap_class":null}`)
	for _, bad := range []string{"", "Price", "velocity_trend.2h", "provenance.", "__proto__"} {
		if _, ok := parseSelection([]string{bad}); ok {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestCapClass(t *testing.T) {
	f := func(value, want string) {
		t.Helper()
		if got := classOf(dec(value)).String(); got != want {
			t.Errorf("%s: got %q, want %q", value, got, want)
		}
	}
	f("10000000000.01", "large")
	f("10000000000", "mid")
	f("1000000000", "mid")
	f("999999999.99", "small")
	f("100000000", "small")
	f("99999999.99", "micro")
	f("0", "micro")
	f("", "")
}

func TestAppendString(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := string(appendString(nil, in)); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
	f("", `""`)
	f("plain", `"plain"`)
	f("a\"b\\c", `"a\"b\\c"`)
	f("\x00\x1f\n\r\t\x7f", `"\u0000\u001f\n\r\t\u007f"`)
	f("<b>&", `"\u003cb\u003e\u0026"`)
	f("\u2028\u2029", `"\u2028\u2029"`)
	f("é世🚀", `"é世🚀"`)
	f("a\xffb\xc3", "\"a\ufffdb\ufffd\"")
	f("\xed\xa0\x80", "\"\ufffd\ufffd\ufffd\"")
	f("\ufffd", "\"\ufffd\"")
}

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "BTC", "\u2028", "\xff", "a\"\\\x00<é🚀", "\xed\xa0\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out := appendString([]byte("x"), s)
		var back string
		if err := json.Unmarshal(out[1:], &back); err != nil {
			t.Fatalf("%q: %q: %v", s, out, err)
		}
		if want := string([]rune(s)); back != want {
			t.Fatalf("%q came back as %q", s, back)
		}
		if !utf8.Valid(out) {
			t.Fatalf("%q gave invalid UTF-8", s)
		}
		if strings.ContainsAny(string(out), "<>&\u2028\u2029\n\r") {
			t.Fatalf("%q left a dangerous character in %q", s, out)
		}
	})
}
