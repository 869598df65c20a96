package wire

import (
	"encoding/json"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

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
