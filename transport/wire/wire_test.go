package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/velocimeter/velocimeter/engine/market"
)

func TestDecodeSubscribe(t *testing.T) {
	f := func(message, want string) {
		t.Helper()
		r, err := DecodeRequest([]byte(message))
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(r.All, r.Tokens, r.Symbols, r.Format.Fields.Len(), r.Format.View, r.Format.Named, r.Format.Digits, r.Format.Numbers, r.Since)
		if got != want {
			t.Fatalf("%s: %s", message, got)
		}
	}
	f(`{"op":"subscribe","tokens":[3,1,3,2]}`, "false [1 2 3] [] 11 quote true 0 0 false")
	f(`{"op":"subscribe","tokens":[ 3 , 1 ],"view":"full"}`, "false [1 3] [] 48 full true 0 0 false")
	f(`{"op":"subscribe","symbols":["b","a"],"digits":"compact"}`, "false [] [b a] 11 quote true 1 0 false")
	f(`{"op":"subscribe","all":true,"fields":["price","symbol","price"],"numbers":"string"}`, "true [] [] 4 quote false 0 1 false")
	f(`{"op":"subscribe","all":true,"since":{"seq":0,"epoch":""}}`, "true [] [] 11 quote true 0 0 true")
}

func TestTooMany(t *testing.T) {
	f := func(n int, element string, code ErrorCode) {
		t.Helper()
		name := "tokens"
		if strings.HasPrefix(element, `"`) {
			name = "symbols"
		}
		list := strings.TrimSuffix(strings.Repeat(element+",", n), ",")
		_, err := DecodeRequest([]byte(`{"op":"subscribe","` + name + `":[` + list + `]}`))
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

func TestCompactDigits(t *testing.T) {
	f := func(field market.Field, in, want string) {
		t.Helper()
		d, _, err := market.ParseDecimal([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		s := new(market.Snapshot)
		s.Put(field, d)
		format := FieldsFormat(field.Bit())
		format.Digits = DigitsCompact
		got := string(AppendRow(nil, s, field.Bit(), &format, 0))
		if got != `{"id":0,"`+field.String()+`":`+want+`}` {
			t.Fatalf("%s %s: %s", field, in, got)
		}
	}
	f(market.FieldPrice, "64010.2345678", "64010.235")
	f(market.FieldPrice, "64010.2345", "64010.234") // half to even
	f(market.FieldPrice, "64010.2355", "64010.236")
	f(market.FieldPrice, "0.000001234567891", "0.0000012345679")
	f(market.FieldVWAP7d, "1.234567891", "1.2345679")
	f(market.FieldMarketCap, "1261234567890.12", "1261230000000")
	f(market.FieldVolume24h, "999999.5", "1000000")
	f(market.FieldCirculatingSupply, "19837456.1", "19837500")
	f(market.FieldFullyDilutedMarketCap, "-1234565", "-1234560")
	f(market.FieldPercentChange24h, "1.555", "1.56")
	f(market.FieldPercentChange24h, "1.565", "1.56")
	f(market.FieldPercentChange24h, "-0.004", "0")
	f(market.FieldChange4h, "12.3456", "12.35")
	f(market.FieldDominance, "57.8851", "57.89")
	f(market.FieldVelocity, "0.024579123", "0.024579123")
	f(market.FieldSlope1h, "0.000000123", "0.000000123")
	f(market.FieldVolatility24h, "0.123456", "0.123456")
	f(market.FieldCoverage1h, "0.97", "0.97")
	f(market.FieldSpread, "12.3", "12.3")
}

func TestRow(t *testing.T) {
	s := &market.Snapshot{ID: 7, Info: &market.Info{Symbol: "A\"\\", Name: "new\nline\x01\xff", Slug: "é€😀"}}
	s.Put(market.FieldSource, market.Decimal{Mant: int64(market.SourceMarket)})
	s.Put(market.FieldPrice, market.Null)
	s.Put(market.FieldDirection1h, market.Decimal{Mant: int64(market.Increasing)})
	f := func(view market.View, mask market.Mask, source market.Source, want string) {
		t.Helper()
		format := ViewFormat(view)
		got := string(AppendRow([]byte("x"), s, mask, &format, source))
		if got != "x"+want {
			t.Fatalf("got %s", got)
		}
		if want != "" && !json.Valid([]byte(want)) {
			t.Fatalf("not JSON: %s", want)
		}
	}
	const m = market.SourceMarket
	f(market.ViewQuote, 0, m, ``)
	f(market.ViewQuote, market.FieldVelocity.Bit(), m, ``)
	f(market.ViewQuote, market.FieldPrice.Bit(), m, `{"id":7,"price":null}`)
	f(market.ViewQuote, market.FieldPrice.Bit(), market.SourceCoinLore, `{"id":7,"price":null,"source":"market"}`)
	f(market.ViewQuote, market.FieldSource.Bit(), m, `{"id":7,"source":"market"}`)
	f(market.ViewVelocity, market.MaskOf(market.FieldVelocityMethod, market.FieldDirection1h), m, `{"id":7,"velocity_method":null,"velocity_direction_1h":"increasing"}`)
	f(market.ViewQuote, market.FieldSymbol.Bit(), m, `{"id":7,"symbol":"A\"\\"}`)
	f(market.ViewQuote, market.TextFields, m, `{"id":7,"symbol":"A\"\\","name":"new\u000aline\u0001`+"\ufffd"+`","slug":"é€😀"}`)
	f(market.ViewQuote, market.FieldFlags.Bit(), m, `{"id":7,"flags":[]}`)
	s.Put(market.FieldFlags, market.Decimal{Mant: int64(market.FlagOutlierPrice | market.FlagSimulated)})
	f(market.ViewQuote, market.FieldFlags.Bit(), m, `{"id":7,"flags":["outlier_price","simulated"]}`)
}

// TestParts cuts messages of all sizes and puts them together again.
func TestParts(t *testing.T) {
	f := func(rows, size, removed int, snapshot bool) {
		t.Helper()
		row := []byte(`{"id":1,"x":"` + strings.Repeat("x", size) + `"}`)
		got, names, ended := 0, 0, false
		p := Parts{Head: Head{Snapshot: snapshot, Channel: 1, Seq: 9, Prev: 8}}
		p.Emit = func(part []byte, more bool) {
			var m struct {
				Rows    []json.RawMessage
				More    bool
				Removed []market.ID
			}
			if err := json.Unmarshal(part, &m); err != nil || m.More != more || ended {
				t.Fatalf("%v: %.200s", err, part)
			}
			if len(part) > MaxPart && len(m.Rows) > 1 {
				t.Fatalf("a part of %d bytes", len(part))
			}
			got, names, ended = got+len(m.Rows), names+len(m.Removed), !more
		}
		for range rows {
			fits := p.Fits(len(row))
			pending := p.Pending()
			p.Row(row)
			if pending && !fits && p.rows != 1 {
				t.Fatal("Fits was wrong")
			}
		}
		ids := make([]market.ID, removed)
		for i := range ids {
			ids[i] = 1<<32 - 1
		}
		p.End(ids)
		if got != rows || !ended || !snapshot && names != removed {
			t.Fatalf("%d rows, %d removed, ended %v", got, names, ended)
		}
	}
	for size := range 40 {
		f(400, size, size, false)
		f(400, 300+size, 0, true)
		f(48, 300+size, 50, false)
	}
	f(0, 0, 0, true)
	f(0, 0, 1000, false)
	f(100, 100, 1000, false)
	f(3, 20<<10, 3, false)
}

// FuzzDecodeRequest holds the decoder to encoding/json: what we accept is valid
// JSON with the same op and id, and what it refuses we refuse.
func FuzzDecodeRequest(f *testing.F) {
	f.Add([]byte(`{"op":"subscribe","id":"1","tokens":[1,1027],"view":"full"}`))
	f.Add([]byte(`{"op":"subscribe","symbols":["\u0042TC"],"since":{"epoch":"a","seq":1}}`))
	f.Add([]byte(`{"op":"ping","id":"\ud83d\ude00"}`))
	f.Add([]byte(`{"op":"subscribe","fields":["price"],"all":true,"rate":"tick","deadband_bps":0.0}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := DecodeRequest(text)
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
		if r.Op == OpSubscribe && r.All == (len(r.Tokens)+len(r.Symbols) > 0) || r.Format.Fields&^market.AllFields != 0 {
			t.Fatalf("%q: %+v", text, r)
		}
	})
}

// BenchmarkRow encodes rows of view quote with four changed fields, compact
// digits, and compares with appending the same bytes.
func BenchmarkRow(b *testing.B) {
	rows := benchRows()
	format := ViewFormat(market.ViewQuote)
	format.Digits = DigitsCompact
	mask := market.MaskOf(market.FieldPrice, market.FieldMarketCap, market.FieldVolume24h, market.FieldPercentChange1h, market.FieldPercentChange24h)
	bench(b, rows, mask, &format)
}

// BenchmarkFullRow encodes whole rows of view full, full digits.
func BenchmarkFullRow(b *testing.B) {
	format := ViewFormat(market.ViewFull)
	bench(b, benchRows(), market.AllFields, &format)
}

func benchRows() []*market.Snapshot {
	rows := make([]*market.Snapshot, 1000)
	for i := range rows {
		s := &market.Snapshot{ID: market.ID(i + 1), Info: &market.Info{Symbol: "TOK" + strconv.Itoa(i), Name: "Token number " + strconv.Itoa(i), Slug: "token-" + strconv.Itoa(i)}}
		for f := range market.NumericFields.Fields() {
			switch f.Spec().Kind {
			case market.KindDecimal:
				s.Put(f, market.NewDecimal(int64(i+1)*98765432109%1_000_000_007*100_003, -7))
			default:
				s.Put(f, market.Decimal{Mant: 1})
			}
		}
		rows[i] = s
	}
	return rows
}

func bench(b *testing.B, rows []*market.Snapshot, mask market.Mask, format *Format) {
	b.ReportAllocs()
	var buf []byte
	n, size := 0, 0
	for b.Loop() {
		s := rows[n%len(rows)]
		buf = AppendRow(buf[:0], s, mask, format, market.SourceCoinMarketCap)
		n++
		size += len(buf)
	}
	per := float64(b.Elapsed().Nanoseconds()) / float64(n)
	from, to := bytes.Repeat([]byte{'x'}, size/n), make([]byte, 0, size/n)
	begin := time.Now()
	for range n {
		to = append(to[:0], from...)
	}
	floor := float64(time.Since(begin).Nanoseconds()) / float64(n)
	b.ReportMetric(per, "ns/row")
	b.ReportMetric(float64(size)/float64(n), "B/row")
	b.ReportMetric(per/floor, "xfloor")
}
