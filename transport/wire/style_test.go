package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// TestStyleGolden holds the bytes of each style's messages.
func TestStyleGolden(t *testing.T) {
	f := func(style Style, snapshot bool, rows []string, removed []market.ID, want ...string) {
		t.Helper()
		var got []string
		p := Parts{Head: Head{
			Style: style, Snapshot: snapshot, Channel: 12, Seq: 813, Prev: 812, Source: market.SourceMarket,
			SourceTime: 1763661599000, ReceivedAt: 1763661599100, Simulated: true,
		}}
		p.Emit = func(part []byte, more bool) {
			if more != (len(got) < len(want)-1) {
				t.Fatalf("part %d of %d: more is %v", len(got)+1, len(want), more)
			}
			got = append(got, string(part))
		}
		for _, r := range rows {
			p.RowOf(1, []byte(r))
		}
		p.End(removed)
		if !slices.Equal(got, want) {
			t.Fatalf("got\n%s", strings.Join(got, "\n"))
		}
	}
	const head = `{"seq":813,"time":1763661599100,"source":"market","source_time":1763661599000,"simulated":true,`
	one, two := `{"id":1,"price":2}`, `{"id":2,"price":null}`
	f(StyleStream, false, []string{one}, []market.ID{9}, `{"type":"delta","ch":12,"seq":813,"prev":812,"source":"market",`+
		`"source_time":1763661599000,"received_at":1763661599100,"simulated":true,"rows":[{"id":1,"price":2}],"removed":[9]}`)
	f(StyleBulk, true, []string{one, two}, nil, head+`"type":"snapshot","rows":[`+one+`,`+two+`],"removed":[]}`)
	f(StyleBulk, true, nil, nil, head+`"type":"snapshot","rows":[],"removed":[]}`)
	f(StyleBulk, false, []string{one}, []market.ID{7, 8}, head+`"type":"delta","rows":[`+one+`],"removed":[7,8]}`)
	long := `{"id":3,"x":"` + strings.Repeat("x", MaxPart/2) + `"}`
	f(StyleBulk, false, []string{long, long}, nil, head+`"type":"delta","rows":[`+long+`],"more":true}`, head+`"type":"delta","rows":[`+long+`],"removed":[]}`)
	f(StyleToken, true, []string{one}, nil, head+`"type":"snapshot","token":`+one+`}`)
	f(StyleToken, true, nil, nil, head+`"type":"snapshot","token":null,"removed":[]}`)
	f(StyleToken, false, []string{one}, nil, head+`"type":"delta","token":`+one+`}`)
	f(StyleToken, false, nil, []market.ID{1}, head+`"type":"delta","token":null,"removed":[1]}`)
	f(StyleToken, false, []string{one, two}, nil, head+`"type":"delta","token":`+one+`}`, head+`"type":"delta","token":`+two+`}`)
	f(StyleToken, false, []string{one}, []market.ID{2}, head+`"type":"delta","token":`+one+`}`, head+`"type":"delta","token":null,"removed":[2]}`)
}

func TestStyleUnknownTimes(t *testing.T) {
	p := Parts{Head: Head{Style: StyleBulk, Seq: 1}}
	p.Emit = func(part []byte, _ bool) {
		if !bytes.HasPrefix(part, []byte(`{"seq":1,"time":null,"source":"`)) || !bytes.Contains(part, []byte(`"source_time":null`)) {
			t.Fatalf("got %s", part)
		}
	}
	p.End(nil)
}

// TestStyleParts cuts messages of all sizes in each style.
func TestStyleParts(t *testing.T) {
	f := func(style Style, rows, size, removed int) {
		t.Helper()
		row := []byte(`{"id":1,"x":"` + strings.Repeat("x", size) + `"}`)
		got, names, ended := 0, 0, false
		p := Parts{Head: Head{Style: style, Seq: 9}}
		p.Emit = func(part []byte, more bool) {
			var m struct {
				Rows    []json.RawMessage
				Token   map[string]any
				More    bool
				Removed []market.ID
			}
			if err := json.Unmarshal(part, &m); err != nil || ended || style == StyleBulk && m.More != more {
				t.Fatalf("%v: %.200s", err, part)
			}
			if m.Token != nil {
				got++
			}
			if len(part) > MaxPart && size < MaxPart/2 {
				t.Fatalf("a part of %d bytes", len(part))
			}
			got, names, ended = got+len(m.Rows), names+len(m.Removed), !more
		}
		for range rows {
			fits, pending := p.Fits(len(row)), p.Pending()
			if style == StyleToken && fits == pending {
				t.Fatal("two rows of one token fit")
			}
			p.RowOf(1, row)
		}
		p.End(make([]market.ID, removed))
		if got != rows || names != removed || !ended || p.Pending() {
			t.Fatalf("%d rows, %d removed, ended %v", got, names, ended)
		}
	}
	for _, style := range []Style{StyleBulk, StyleToken} {
		for size := range 40 {
			f(style, 400, size, size)
			f(style, 48, 300+size, MaxRemoved)
		}
		f(style, 0, 0, 0)
		f(style, 0, 0, 1)
		f(style, 3, 20<<10, 3)
	}
}

func TestDecodeOptions(t *testing.T) {
	f := func(options, want string) {
		t.Helper()
		r := Request{Rate: RateAuto}
		err := DecodeOptions([]byte(options), &r)
		got := fmt.Sprint(r.Format.Fields.Len(), r.Format.View, r.Format.Named, r.Format.Digits, r.Format.Numbers, r.Rate)
		if err != nil {
			got = string(err.Code)
		}
		if got != want {
			t.Fatalf("%s: %s", options, got)
		}
	}
	const defaults = "11 quote true full number tick"
	for _, nothing := range []string{``, ` `, `null`, ` null `, ` {}`, `{"view":null,"fields":null,"rate":null,"digits":null,"numbers":null}`} {
		f(nothing, defaults)
	}
	f(`{"view":"full","digits":"compact","numbers":"string","rate":"auto"}`, "48 full true compact string auto")
	f(`{"fields":["price"],"rate":0.3}`, "4 quote false full number 0.2")
	f(`{"rate":2}`, "11 quote true full number 2")
	f(`{"view":"none"}`, "bad_value")
	f(`{"view":"full","fields":["price"]}`, "bad_value")
	f(`{"fields":[]}`, "bad_value")
	f(`{"fields":["nope"]}`, "bad_value")
	f(`{"rate":"fast"}`, "bad_value")
	f(`{"rate":0}`, "bad_value")
	f(`{"digits":"all"}`, "bad_value")
	f(`{"numbers":1}`, "bad_value")
	f(`{"shape":"array"}`, "unknown_member")
	f(`{"mode":"every"}`, "unknown_member")
	f(`{"tokens":[1]}`, "unknown_member")
	f(`{"__proto__":{}}`, "unknown_member")
	f(`[]`, "bad_value")
	f(`"full"`, "bad_value")
	f(`nullx`, "bad_value")
	f(`{"view":"full"} x`, "bad_message")
	f(`{"view":"full","view":"full"}`, "bad_message")
	f(`{"view":`, "bad_message")
	f(`{"view":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":1}}}}}}}}}`, "bad_message")
}

func FuzzDecodeOptions(f *testing.F) {
	f.Add([]byte(`{"view":"full","rate":1}`))
	f.Add([]byte(`{"fields":["price"],"numbers":"string"}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r Request
		if err := DecodeOptions(raw, &r); err == nil && r.Format.Fields&market.TextFields != market.TextFields {
			t.Fatalf("%s gives %+v", raw, r)
		}
	})
}
