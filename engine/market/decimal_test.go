package market_test

import (
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

func TestParseDecimal(t *testing.T) {
	f := func(text, want string, rounded bool) {
		t.Helper()
		d, r, err := market.ParseDecimal([]byte(text))
		if err != nil || d.String() != want || r != rounded {
			t.Errorf("ParseDecimal(%q) = %s, %v, %v; want %s, %v", text, d, r, err, want, rounded)
		}
	}
	f("0", "0", false)
	f("-0", "0", false)
	f("0.000", "0", false)
	f("0e99", "0", false)
	f("1", "1", false)
	f("-1.50", "-1.5", false)
	f("100", "100", false)
	f("1e2", "100", false)
	f("1E+2", "100", false)
	f("1.5e-3", "0.0015", false)
	f("0.0000000012345", "0.0000000012345", false)
	f("34639.39567221676", "34639.39567221676", false)
	f("649289249853.1792", "649289249853.1792", false)
	f("999999999999999999", "999999999999999999", false)
	f("9999999999999999990", "9999999999999999990", false)
	f("1.000000000000000005", "1", true)                    // half to even, down
	f("1.000000000000000015", "1.00000000000000002", true)  // half to even, up
	f("1.0000000000000000051", "1.00000000000000001", true) // above half
	f("9999999999999999995", "10000000000000000000", true)  // carries into a new digit
	f("0.1000000000000000000000000", "0.1", false)
	f("31000000000000", "31000000000000", false)
}

func TestParseDecimalErrors(t *testing.T) {
	f := func(text string, want error) {
		t.Helper()
		if d, _, err := market.ParseDecimal([]byte(text)); !errors.Is(err, want) || !d.IsNull() {
			t.Errorf("ParseDecimal(%q) = %s, %v; want %v", text, d, err, want)
		}
	}
	for text := range strings.FieldsSeq("- +1 .5 1. 01 -01 1e 1e+ 0x1 NaN Infinity null 1,2 1_0 ١ --1 1.2.3 1e1.5") {
		f(text, market.ErrNotNumber)
	}
	f("", market.ErrNotNumber)
	f("1 ", market.ErrNotNumber)
	f(" 1", market.ErrNotNumber)
	f("1e400", market.ErrRange)
	f("1e-400", market.ErrRange)
	f("1e101", market.ErrRange)
	f("1e99999999999999999999", market.ErrRange)
}

// randomNumber writes JSON numbers of every shape that a provider has sent.
func randomNumber(r *rand.Rand) string {
	text := strconv.FormatUint(r.Uint64()>>r.IntN(64), 10)
	if r.IntN(2) == 0 {
		at := r.IntN(len(text))
		head := text[:at]
		if head == "" || head[0] == '0' {
			head = "0"
		}
		text = head + "." + text[at:]
	}
	if r.IntN(4) == 0 {
		text += "e" + strconv.Itoa(r.IntN(60)-30)
	}
	if r.IntN(4) == 0 {
		text = "-" + text
	}
	return text
}

func TestDecimalAgreesWithExactArithmetic(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	prev, prevRat := market.Decimal{}, new(big.Rat)
	for range 50_000 {
		text := randomNumber(r)
		d, rounded, err := market.ParseDecimal([]byte(text))
		if err != nil {
			t.Fatalf("ParseDecimal(%q): %v", text, err)
		}
		exact, _ := new(big.Rat).SetString(text)
		got, ok := new(big.Rat).SetString(d.String())
		if !ok {
			t.Fatalf("%q prints as %q, which is no number", text, d)
		}
		if same := got.Cmp(exact) == 0; same == rounded {
			t.Fatalf("%q -> %s: equal %v, rounded %v", text, d, same, rounded)
		}
		if back, _, _ := market.ParseDecimal([]byte(d.String())); back != d {
			t.Fatalf("%s reads back as %s", d, back)
		}
		if d.Mant != 0 && d.Mant%10 == 0 || d.Mant == 0 && d.Exp != 0 {
			t.Fatalf("%q is not normalised: %+v", text, d)
		}
		if d.Cmp(prev) != got.Cmp(prevRat) {
			t.Fatalf("Cmp(%s, %s) = %d", d, prev, d.Cmp(prev))
		}
		want, _ := strconv.ParseFloat(d.String(), 64)
		if f := d.Float(); f != want && math.Abs(f-want) > math.Abs(want)*2.3e-16 {
			t.Fatalf("%s.Float() = %v, want %v", d, f, want)
		}
		prev, prevRat = d, got
	}
}

func TestDecimalRounding(t *testing.T) {
	parse := func(s string) market.Decimal { d, _, _ := market.ParseDecimal([]byte(s)); return d }
	f := func(got market.Decimal, want string) {
		t.Helper()
		if got.String() != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	f(parse("64010.2345678").RoundSignificant(8), "64010.235")
	f(parse("0.000004567891").RoundSignificant(3), "0.00000457")
	f(parse("31415926535").RoundSignificant(6), "31415900000")
	f(parse("2.5").RoundSignificant(1), "2")
	f(parse("3.5").RoundSignificant(1), "4")
	f(parse("-3.5").RoundSignificant(1), "-4")
	f(parse("9.99").RoundSignificant(2), "10")
	f(parse("1.005").RoundPlaces(2), "1")
	f(parse("1.015").RoundPlaces(2), "1.02")
	f(parse("0.004").RoundPlaces(2), "0")
	f(parse("1e-30").RoundPlaces(2), "0")
	f(parse("1234").RoundPlaces(2), "1234")
	f(market.Null.RoundPlaces(2), "null")
	f(market.Fixed(0.0517345678949, -9), "0.051734568")
	f(market.Fixed(-12.34565, -4), "-12.3456")
	f(market.Fixed(math.NaN(), -9), "null")
	f(market.Fixed(math.Inf(1), -9), "null")
	f(market.Fixed(1e12, -9), "1000000000000")
	f(market.Significant(64010.23456, 7), "64010.23")
	f(market.Significant(0, 7), "0")
	f(market.Significant(1e-300, 7), "null")
}

func TestDecimalRescale(t *testing.T) {
	f := func(d market.Decimal, exp int8, want int64, ok bool) {
		t.Helper()
		if m, o := d.Rescale(exp); m != want || o != ok {
			t.Errorf("%s.Rescale(%d) = %d, %v; want %d, %v", d, exp, m, o, want, ok)
		}
	}
	f(market.NewDecimal(15, -1), -3, 1500, true)
	f(market.NewDecimal(-15, -1), -1, -15, true)
	f(market.NewDecimal(15, -1), 0, 0, false)
	f(market.NewDecimal(1, 18), -1, 0, false)
	f(market.NewDecimal(math.MaxInt64, 0), 0, math.MaxInt64, true)
	f(market.NewDecimal(math.MaxInt64, 0), -1, 0, false)
	f(market.FromInt(0), -100, 0, true)
	f(market.Null, 0, 0, false)
}

func FuzzParseDecimal(f *testing.F) {
	for _, s := range []string{"0", "-1.5e-7", "1e400", "9999999999999999995", "0.0", "1..2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, rounded, err := market.ParseDecimal([]byte(text))
		if err != nil {
			return
		}
		exact, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatalf("accepted %q", text)
		}
		got, _ := new(big.Rat).SetString(d.String())
		if (got.Cmp(exact) == 0) == rounded {
			t.Fatalf("%q -> %s, rounded %v", text, d, rounded)
		}
	})
}

func BenchmarkParseDecimal(b *testing.B) {
	text := []byte("34639.39567221676")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := market.ParseDecimal(text); err != nil {
			b.Fatal(err)
		}
	}
}
