package token_test

import (
	"math"
	"runtime"
	"testing"
	"unsafe"

	"github.com/velocimeter/velocimeter/engine/enginetest"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/engine/token"
)

// heap returns the live bytes.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// hold returns the bytes that a token holds after so many quotes: the mean of n.
func hold(n, quotes int) int {
	tokens := make([]*token.Token, n)
	info := &market.Info{Symbol: "BTC"}
	var env market.Env
	before := heap()
	for i := range tokens {
		tokens[i] = token.New(market.ID(i + 1))
		for j := range quotes {
			q := quoteAt(j, info)
			env = envAt(j)
			tokens[i].Step(&q, &env)
		}
	}
	size := (heap() - before) / uint64(n)
	runtime.KeepAlive(tokens)
	return int(size)
}

// TestSize measures what a token holds: just born, and with full windows. The
// least of three measurements counts, since the test's own runtime is on the
// same heap.
func TestSize(t *testing.T) {
	f := func(what string, n, quotes, limit int) {
		t.Helper()
		size := min(hold(n, quotes), hold(n, quotes), hold(n, quotes))
		t.Logf("a token %s holds %d bytes (%d of them Token, %d Snapshot)", what, size,
			unsafe.Sizeof(token.Token{}), unsafe.Sizeof(market.Snapshot{}))
		if size > limit {
			t.Errorf("a token %s holds %d bytes, want at most %d", what, size, limit)
		}
	}

	f("just born", 4000, 1, 2048)
	f("of nine minutes", 500, 9, 4096)
	f("of eight days", 4, 8*24*60, 48*1024)
}

// TestAllocs holds a Step to one allocation, the snapshot, and a Step that
// changes nothing to none.
func TestAllocs(t *testing.T) {
	tk := token.New(1)
	info := &market.Info{Symbol: "BTC"}
	var env market.Env
	var q market.Quote
	i := 0
	next := func() {
		q, env = quoteAt(i, info), envAt(i)
		tk.Step(&q, &env)
		i++
	}
	for range 3000 {
		next()
	}
	if got := testing.AllocsPerRun(200, next); got != 1 {
		t.Errorf("a step costs %g allocations, want 1", got)
	}
	var mark token.Mark
	if got := testing.AllocsPerRun(200, func() {
		tk.Save(&mark)
		tk.Step(&q, &env)
		tk.Clock(&env)
		tk.Restore(&mark)
	}); got != 0 {
		t.Errorf("a repeated quote costs %g allocations, want 0", got)
	}
}

// TestVWAPDigits compares the published rounding of a VWAP with the exact one:
// the product that is rounded may be half a unit in its last place off a tie.
func TestVWAPDigits(t *testing.T) {
	f := func(price market.Decimal) {
		t.Helper()
		tk := token.New(1)
		q, env := quoteAt(0, &market.Info{}), envAt(0)
		q.Price = price
		s, _ := tk.Step(&q, &env)
		got, want := s.Value(market.FieldVWAP1h), market.Significant(float64(float32(price.Float())), 7)
		if got != want {
			t.Errorf("VWAP of %s is %s, want %s", price, got, want)
		}
	}
	for exp := int8(-40); exp < 30; exp++ {
		for _, mant := range []int64{1, 9, 99999995, 1234567, 12345678, 9999999, 5, 2, 1024, 999999949} {
			f(market.NewDecimal(mant, exp))
		}
	}
}

func TestLevelReferenceIsExplained(t *testing.T) {
	tk := token.New(1)
	r := tk.Explain()
	if !math.IsNaN(r.LevelReference) || !math.IsNaN(r.StepLimit[quality.Price]) || r.Rejected != nil {
		t.Errorf("a token that has seen nothing explains %+v", r)
	}
	info := &market.Info{}
	for i := range 8 {
		q, env := quoteAt(i, info), envAt(i)
		tk.Step(&q, &env)
	}
	if r = tk.Explain(); !(r.LevelReference > 0.02 && r.LevelReference < 0.03) || r.StepLimit[quality.Cap] != math.Log(1.10) {
		t.Errorf("after eight samples: %+v", r)
	}
}

func FuzzDecode(f *testing.F) {
	dirt := enginetest.NewDirt(1, 1)
	dirt.Rate = 0.3
	tk := token.New(1)
	for i := range 200 {
		b := dirt.Batch()
		env := dirt.Env(b)
		for j := range b.Quotes {
			tk.Step(&b.Quotes[j], &env)
		}
		if i%20 == 0 {
			f.Add(tk.AppendState(nil))
		}
	}
	f.Add([]byte(nil))
	b := dirt.Batch()
	f.Fuzz(func(t *testing.T, blob []byte) {
		tk, err := token.Decode(1, blob, nil)
		if (tk == nil) && err == nil {
			t.Fatal("neither a token nor an error")
		}
		if tk == nil {
			return
		}
		// Whatever was decoded must go on without a panic and come back.
		var mark token.Mark
		for i := range b.Quotes {
			env := dirt.Env(b)
			tk.Save(&mark)
			tk.Step(&b.Quotes[i], &env)
			tk.Restore(&mark)
			tk.Step(&b.Quotes[i], &env)
			tk.Clock(&env)
			tk.Deadline()
		}
		if back, err := token.Decode(1, tk.AppendState(nil), nil); back == nil {
			t.Fatalf("a decoded token writes what it cannot read: %v", err)
		}
	})
}
