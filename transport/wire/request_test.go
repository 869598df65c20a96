package wire

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/velocimeter/velocimeter/engine/market"
)

func TestDecodeSubscribe(t *testing.T) {
	f := func(message, want string) {
		t.Helper()
		r, err := DecodeRequest([]byte(message), EncodingJSON)
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(r.All, r.Tokens, r.Symbols, " ", r.Format.Fields.Len(), r.Format.View, r.Format.Named, r.Format.Digits, r.Format.Numbers, r.Format.Shape)
		if got != want {
			t.Fatalf("%s: %s", message, got)
		}
	}
	f(`{"op":"subscribe","tokens":[3,1,3,2]}`, "false [1 2 3] [] 11 quote true full number object")
	f(`{"op":"subscribe","tokens":[ 3 , 1 ],"view":"full"}`, "false [1 3] [] 48 full true full number object")
	f(`{"op":"subscribe","symbols":["b","a"],"digits":"compact"}`, "false [] [b a] 11 quote true compact number object")
	f(`{"op":"subscribe","all":true,"fields":["price","symbol","price"],"numbers":"string"}`, "true [] [] 4 quote false full string object")
	f(`{"op":"subscribe","top":{"by":"velocity","n":5},"shape":"array"}`, "false [] [] 12 quote true full number array")
	f(`{"op":"subscribe","top":{"n":5,"by":"velocity"},"fields":["price"]}`, "false [] [] 5 quote false full number object")
}

func TestDecodePace(t *testing.T) {
	f := func(options, want string) {
		t.Helper()
		for _, op := range []string{`"op":"subscribe","all":true,`, `"op":"update","sub":7,`} {
			r, err := DecodeRequest([]byte(`{`+op+options+`}`), EncodingJSON)
			if err != nil {
				t.Fatal(err)
			}
			if r.Op == OpUpdate {
				if r.Update.Rate != nil {
					r.Rate = *r.Update.Rate
				}
				if r.Update.Deadband != nil {
					r.Deadband = *r.Update.Deadband
				}
			}
			if got := fmt.Sprintf("%s %s %d", r.Rate.AppendJSON(nil), r.Rate.Period(), r.Deadband); got != want {
				t.Fatalf("%s: %s", options, got)
			}
		}
	}
	f(`"rate":"tick"`, `"tick" 0s 0`)
	f(`"rate":"auto"`, `"auto" 0s 0`)
	f(`"rate":1e9`, `20 50ms 0`)
	f(`"rate":20.0`, `20 50ms 0`)
	f(`"rate":19.99`, `10 100ms 0`)
	f(`"rate":7`, `5 200ms 0`)
	f(`"rate":2.5`, `2 500ms 0`)
	f(`"rate":1`, `1 1s 0`)
	f(`"rate":0.99`, `0.5 2s 0`)
	f(`"rate":0.3`, `0.2 5s 0`)
	f(`"rate":1e-1`, `0.1 10s 0`)
	for asked, class := range map[string]int{"0": 0, "0.99": 0, "1": 1, "4.9": 2, "5": 5, "10": 10, "19": 10, "49": 20, "99.9": 50, "100": 100, "1e6": 100} {
		f(`"deadband_bps":`+asked, `"tick" 0s `+strconv.Itoa(class))
	}
}

func TestDecodeSince(t *testing.T) {
	f := func(message string, want *Position) {
		t.Helper()
		r, err := DecodeRequest([]byte(message), EncodingBinary)
		if err != nil || (r.Since == nil) != (want == nil) || want != nil && *r.Since != *want {
			t.Fatalf("%s: %+v, %v", message, r.Since, err)
		}
		if r.Format.Encoding != EncodingBinary {
			t.Fatal("not a binary format")
		}
	}
	f(`{"op":"subscribe","all":true}`, nil)
	f(`{"op":"subscribe","all":true,"since":{"seq":9,"epoch":"a"}}`, &Position{"a", 9})
	f(`{"op":"subscribe","all":true,"since":{"epoch":"","seq":9007199254740991}}`, &Position{"", 1<<53 - 1})
}

// TestUpdateFormat applies updates to a format.
func TestUpdateFormat(t *testing.T) {
	f := func(options string, top *Top, want Format) {
		t.Helper()
		was := ViewFormat(market.ViewQuote)
		was.Digits, was.Fields = DigitsCompact, was.Fields|top.mask()
		r, err := DecodeRequest([]byte(`{"op":"update","sub":7,`+options+`}`), EncodingJSON)
		if err != nil || r.Sub != 7 {
			t.Fatalf("%s: %v", options, err)
		}
		if got := r.Update.Format(was, top); got != want || r.Update.Reformats() != (got != was) {
			t.Fatalf("%s: %+v", options, got)
		}
	}
	same := ViewFormat(market.ViewQuote)
	same.Digits = DigitsCompact
	f(`"rate":1`, nil, same)
	f(`"tokens":[1]`, nil, same)
	full := ViewFormat(market.ViewFull)
	f(`"view":"full","digits":"full"`, nil, full)
	one := FieldsFormat(market.FieldPrice.Bit())
	one.Digits, one.Shape, one.Numbers = DigitsCompact, ShapeArray, NumbersString
	f(`"fields":["price"],"shape":"array","numbers":"string"`, nil, one)
	ranked := FieldsFormat(market.MaskOf(market.FieldPrice, market.FieldVelocity))
	ranked.Digits = DigitsCompact
	f(`"fields":["price"]`, &Top{By: market.FieldVelocity, N: 1}, ranked)
}

// What effective tells as fields can be asked for again, and is the same then.
func TestEffectiveFieldsAreAList(t *testing.T) {
	f := func(asked, want string) {
		t.Helper()
		r, bad := DecodeRequest([]byte(`{"op":"subscribe","all":true,"fields":`+asked+`}`), EncodingJSON)
		if bad != nil {
			t.Fatal(bad)
		}
		got := string(appendFields(nil, &r.Format))
		again, bad := DecodeRequest([]byte(`{"op":"subscribe","all":true,`+got+`}`), EncodingJSON)
		if got != `"fields":`+want || bad != nil || again.Format != r.Format {
			t.Errorf("%s is effective as %s, %v, and then %+v", asked, got, bad, again.Format)
		}
	}
	f(`["velocity","price"]`, `["price","velocity"]`)
	f(`["name","price"]`, `["price"]`)
	f(`["symbol"]`, `["symbol","name","slug"]`)
	f(`["slug","name"]`, `["symbol","name","slug"]`)
}

func TestTooMany(t *testing.T) {
	f := func(n int, element string, code ErrorCode) {
		t.Helper()
		name := "tokens"
		if strings.HasPrefix(element, `"`) {
			name = "symbols"
		}
		list := strings.TrimSuffix(strings.Repeat(element+",", n), ",")
		_, err := DecodeRequest([]byte(`{"op":"subscribe","`+name+`":[`+list+`]}`), EncodingJSON)
		if code == "" && err != nil || code != "" && (err == nil || err.Code != code) {
			t.Fatalf("%d of %s: %v", n, element, err)
		}
	}
	f(10_000, "1", "")
	f(10_001, "1", TooMany)
	f(10_000, `"a"`, "")
	f(10_001, `"a"`, TooMany)
	f(1, `"`+strings.Repeat("a", 64)+`"`, "")
	f(1, `"`+strings.Repeat("a", 65)+`"`, BadValue)
}

// FuzzDecodeRequest holds the decoder to encoding/json: what we accept is valid
// JSON with the same op and id, and what it refuses we refuse.
func FuzzDecodeRequest(f *testing.F) {
	f.Add([]byte(`{"op":"subscribe","id":"1","tokens":[1,1027],"view":"full"}`))
	f.Add([]byte(`{"op":"subscribe","symbols":["\u0042TC"],"since":{"epoch":"a","seq":1}}`))
	f.Add([]byte(`{"op":"subscribe","top":{"by":"velocity","n":50},"rate":"auto"}`))
	f.Add([]byte(`{"op":"update","sub":7,"rate":1,"deadband_bps":5,"symbols":["BTC"],"shape":"array"}`))
	f.Add([]byte(`{"op":"verify","sub":7,"tokens":[1],"heal":true}`))
	f.Add([]byte(`{"op":"ping","id":"\ud83d\ude00"}`))
	f.Add([]byte(`{"op":"subscribe","fields":["price"],"all":true,"rate":"tick","deadband_bps":0.0}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := DecodeRequest(text, EncodingJSON)
		if err != nil {
			if err.Text == "" || len(AppendError(nil, &r, err, 0)) == 0 || !json.Valid(AppendError(nil, &r, err, 0)) {
				t.Fatalf("error %q", err.Text)
			}
			return
		}
		var std struct {
			Op string
			ID *string
		}
		if e := json.Unmarshal(text, &std); e != nil || !utf8.Valid(text) {
			t.Fatalf("accepted %q: %v", text, e)
		}
		if ops[std.Op] != r.Op || r.HasID != (std.ID != nil) || r.HasID && *std.ID != r.ID {
			t.Fatalf("%q: %+v", text, r)
		}
		if r.Op == OpSubscribe && (r.All || r.Top != nil) == (len(r.Tokens)+len(r.Symbols) > 0) || r.Format.Fields&^market.AllFields != 0 {
			t.Fatalf("%q: %+v", text, r)
		}
		if r.Deadband < 0 || r.Deadband > 100 || r.Top != nil && (r.Top.N < 1 || r.Top.N > MaxTop) || len(r.Tokens) > MaxTokens {
			t.Fatalf("%q: %+v", text, r)
		}
		if _, err := DecodeRequest(text, EncodingBinary); err != nil && err.Code != BadValue {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
