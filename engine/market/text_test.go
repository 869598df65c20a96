package market_test

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// plainText is what AppendText has to give, by the standard library.
func plainText(d market.Decimal) string {
	if d.IsNull() {
		return "null"
	}
	text, sign := strconv.FormatInt(d.Mant, 10), ""
	if text[0] == '-' {
		text, sign = text[1:], "-"
	}
	if d.Exp >= 0 {
		return sign + text + strings.Repeat("0", int(d.Exp))
	}
	if n := -int(d.Exp); len(text) <= n {
		text = strings.Repeat("0", n+1-len(text)) + text
	}
	at := len(text) + int(d.Exp)
	return sign + text[:at] + "." + text[at:]
}

func TestAppendText(t *testing.T) {
	f := func(d market.Decimal) {
		t.Helper()
		want := plainText(d)
		if got := d.String(); got != want {
			t.Fatalf("%+v is %q, want %q", d, got, want)
		}
		// Not a byte beside the text may change, however much room there is.
		for room := 0; room < 60; room += 7 {
			buf := append(make([]byte, 0, 7+room), "before:"...)
			if got := string(d.AppendText(buf)); got != "before:"+want {
				t.Fatalf("%+v with room for %d is %q, want %q", d, room, got, want)
			}
		}
	}
	f(market.Null)
	f(market.Decimal{Mant: 3, Exp: -128})
	f(market.Decimal{Mant: math.MinInt64, Exp: -19})
	for exp := -128; exp < 127; exp++ { // 127 is null's
		f(market.Decimal{Exp: int8(exp)})
		for m, n := int64(1), 0; n < 19; m, n = m*10, n+1 {
			for _, mant := range []int64{m, m - 1, m + 1, 9*m - 1, -m, m/9*8 + 7} {
				f(market.Decimal{Mant: mant, Exp: int8(exp)})
			}
		}
	}
	rng := rand.New(rand.NewPCG(1, 3))
	for range 5000 {
		f(market.Decimal{Mant: int64(rng.Uint64()) >> rng.IntN(64), Exp: int8(rng.IntN(60) - 40)})
	}
}

func TestAppendRFC3339(t *testing.T) {
	const layout = "2006-01-02T15:04:05.000Z"
	f := func(at market.Time) {
		t.Helper()
		want := at.Std().Format(layout)
		if got := string(at.AppendRFC3339([]byte("x"))); got != "x"+want {
			t.Fatalf("%d is %s, want %s", at, got, want)
		}
	}
	day := market.Time(market.Day)
	last := market.TimeOf(time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC))
	rng := rand.New(rand.NewPCG(1, 4))
	step := day // every date
	if testing.Short() {
		step = 37 * day
	}
	for at := market.Time(0); at <= last; at += step {
		f(at + market.Time(rng.Int64N(int64(day))))
	}
	for at := range day / 1000 { // every second
		f(at*1000 + at%1000)
	}
	for _, at := range []market.Time{0, last, last + 1, last + day, -1, -day, math.MaxInt64 / 4_000_000, -62135596800000} {
		f(at)
	}
}

func BenchmarkAppendText(b *testing.B) {
	numbers := []market.Decimal{
		market.NewDecimal(64010235, -3), market.NewDecimal(123456, 7), market.NewDecimal(51734568, -9), market.NewDecimal(1234567891, -9),
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = buf[:0]
		for _, d := range numbers {
			buf = d.AppendText(buf)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(numbers)), "ns/number")
}

func BenchmarkAppendRFC3339(b *testing.B) {
	var buf []byte
	at := market.Time(1_763_661_600_123)
	for b.Loop() {
		buf = at.AppendRFC3339(buf[:0])
		at += 60_000
	}
}
