package token_test

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/velocimeter/velocimeter/engine/enginetest"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/token"
)

// shelf stands for the store: the samples of closed hours of one token.
type shelf []market.HourCells

// take exports what became dirty.
func (s *shelf) take(tk *token.Token) {
	for _, hour := range tk.DirtyHours() {
		cells := tk.HourCells(hour)
		if n := len(*s); n > 0 && (*s)[n-1].Hour == hour {
			(*s)[n-1].Cells = cells
			continue
		}
		*s = append(*s, market.HourCells{Hour: hour, Cells: cells})
	}
	tk.ClearDirty()
}

func (s shelf) cells(before market.Time) (cells []market.Cell) {
	for _, h := range s {
		if h.Hour < before {
			cells = append(cells, h.Cells...)
		}
	}
	return cells
}

// sameSnapshot compares all that a snapshot says.
func sameSnapshot(a, b *market.Snapshot) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.Info, y.Info = nil, nil
	x.Review, y.Review = nil, nil
	return x == y && *a.Info == *b.Info && sameReview(a.Review, b.Review)
}

func sameReview(a, b *market.Review) bool {
	if a == nil || b == nil {
		return a == b
	}
	bits := func(r *market.Review) []float64 { return append(r.StepLimit[:], r.LevelReference) }
	x, y := bits(a), bits(b)
	for i := range x {
		if x[i] != y[i] && (x[i] == x[i] || y[i] == y[i]) {
			return false
		}
	}
	return len(a.Rejected) == len(b.Rejected) && (len(a.Rejected) == 0 || reflect.DeepEqual(a.Rejected, b.Rejected))
}

// TestWalk feeds dirty streams to two tokens. One is never interrupted; the
// other is saved, decoded, undone and stepped again all the time. Both must show
// the same, and what they show must obey the laws of a snapshot.
func TestWalk(t *testing.T) {
	f := func(seed uint64, polls int, step market.Millis) {
		t.Helper()
		rng := rand.New(rand.NewPCG(seed, 1))
		dirt := enginetest.NewDirt(seed, 3)
		dirt.Rate, dirt.Step = 0.25, step
		w := walk{t: t, rng: rng, calm: map[market.ID]*token.Token{}, rough: map[market.ID]*token.Token{}, shelves: map[market.ID]*shelf{}}
		for range polls {
			b := dirt.Batch()
			env := dirt.Env(b)
			for i := range b.Quotes {
				if i == 0 || b.Quotes[i].ID != b.Quotes[i-1].ID { // the gate drops second rows
					w.step(&b.Quotes[i], &env)
				}
			}
		}
		if w.flagged == 0 || w.flagged == w.steps || w.late == 0 || w.corrected == 0 {
			t.Errorf("seed %d proved little: %d of %d steps flagged, %d late, %d corrected", seed, w.flagged, w.steps, w.late, w.corrected)
		}
	}

	f(1, 1500, market.Minute)
	f(2, 1500, market.Minute)
	f(3, 1000, 15*market.Minute)
	f(4, 1000, market.Second)
	f(5, 800, market.Hour)
}

type walk struct {
	t           *testing.T
	rng         *rand.Rand
	calm, rough map[market.ID]*token.Token
	shelves     map[market.ID]*shelf
	mark        token.Mark

	steps, flagged, late, corrected int
}

func (w *walk) step(q *market.Quote, env *market.Env) {
	w.t.Helper()
	id := q.ID
	if w.calm[id] == nil {
		w.calm[id], w.rough[id], w.shelves[id] = token.New(id), token.New(id), new(shelf)
	}
	calm, rough := w.calm[id], w.rough[id]
	before := calm.Snapshot()
	snap, mask := calm.Step(q, env)
	w.lawful(before, snap, mask, env)

	if w.rng.IntN(4) == 0 {
		rough.Save(&w.mark)
		other := *q
		other.CirculatingSupply = market.FromInt(1 + w.rng.Int64N(1e9))
		other.Price, other.SourceTime = market.FromInt(w.rng.Int64N(1000)), other.SourceTime+market.Time(w.rng.IntN(2))
		rough.Step(&other, env)
		rough.Clock(env)
		rough.Restore(&w.mark)
	}
	got, gotMask := rough.Step(q, env)
	if gotMask != mask || !sameSnapshot(got, snap) {
		w.t.Fatalf("token %d at seq %d: interrupted token shows %+v (mask %x), want %+v (mask %x)", id, env.Seq, got, gotMask, snap, mask)
	}
	if d := calm.Deadline(); mask != 0 && d != 0 && d <= env.Now {
		w.t.Fatalf("token %d: deadline %d after a step at %d", id, d, env.Now)
	}
	w.clock(calm, rough, env)
	if w.rng.IntN(30) == 0 {
		w.restart(id)
	}
	if w.rng.IntN(10) == 0 {
		w.shelves[id].take(rough)
	}
	w.tally(calm)
}

func (w *walk) tally(calm *token.Token) {
	w.steps++
	if calm.Snapshot().Flags().Excluded() {
		w.flagged++
	}
	w.late += int(calm.Counts().Late)
	w.corrected += int(calm.Counts().Corrected)
}

func (w *walk) clock(calm, rough *token.Token, env *market.Env) {
	w.t.Helper()
	later := *env
	later.Now = later.Now.Add(market.Millis(w.rng.Int64N(int64(5 * env.Cadence))))
	snap, mask := calm.Clock(&later)
	got, gotMask := rough.Clock(&later)
	if gotMask != mask || !sameSnapshot(got, snap) || calm.Deadline() != rough.Deadline() || calm.LastSeen() != rough.LastSeen() {
		w.t.Fatalf("token %d: clock gives %+v (mask %x), want %+v (mask %x)", calm.ID(), got, gotMask, snap, mask)
	}
	if d := calm.Deadline(); d != 0 && d <= later.Now {
		w.t.Fatalf("token %d: deadline %d is not after now %d", calm.ID(), d, later.Now)
	}
}

func (w *walk) restart(id market.ID) {
	w.t.Helper()
	w.shelves[id].take(w.rough[id])
	blob := w.rough[id].AppendState(nil)
	if want := w.calm[id].AppendState(nil); !bytes.Equal(blob, want) {
		w.t.Fatalf("token %d: the interrupted token's state differs", id)
	}
	newest := w.rough[id].Window().Now()
	back, err := token.Decode(id, blob, w.shelves[id].cells(newest/market.Time(market.Hour)*market.Time(market.Hour)))
	if err != nil {
		w.t.Fatal(err)
	}
	if again := back.AppendState(nil); !bytes.Equal(again, blob) {
		w.t.Fatalf("token %d: a decoded token encodes otherwise", id)
	}
	w.rough[id] = back
}

// lawful checks what every step must leave behind.
func (w *walk) lawful(before, s *market.Snapshot, mask market.Mask, env *market.Env) {
	w.t.Helper()
	if mask == 0 {
		if s != before {
			w.t.Fatalf("a step that changed nothing made a snapshot")
		}
		return
	}
	if s == before || s.Seq != env.Seq {
		w.t.Fatalf("a step that changed %x left snapshot %d at seq %d", mask, s.Seq, env.Seq)
	}
	for f := market.Field(1); f <= market.NumFields; f++ {
		if mask.Has(f) != (s.Version(f) == env.Seq) {
			w.t.Fatalf("%s: changed is %v, version %d at seq %d", f, mask.Has(f), s.Version(f), env.Seq)
		}
		if before != nil && f <= market.NumNumeric && mask.Has(f) != (s.Value(f) != before.Value(f)) {
			w.t.Fatalf("%s: changed is %v from %v to %v", f, mask.Has(f), before.Value(f), s.Value(f))
		}
	}
	for _, f := range []market.Field{market.FieldPrice, market.FieldMarketCap, market.FieldVolume24h} {
		if s.Int(f) < 0 {
			w.t.Fatalf("%s is negative: %v", f, s.Value(f))
		}
	}
	w.lawfulVelocity(s)
}

func (w *walk) lawfulVelocity(s *market.Snapshot) {
	w.t.Helper()
	v, divisor := s.Value(market.FieldVelocity), s.Value(market.FieldMarketCap).Float()
	switch market.Method(s.Int(market.FieldVelocityMethod)) {
	case market.MethodNone:
		if !v.IsNull() || s.Int(market.FieldVelocityReason) == 0 {
			w.t.Fatalf("velocity %v without a method, reason %d", v, s.Int(market.FieldVelocityReason))
		}
		return
	case market.MethodSelfReportedCap:
		return
	case market.MethodComputedCap:
		divisor = s.Value(market.FieldPrice).Float() * s.Value(market.FieldCirculatingSupply).Float()
	default:
	}
	if want := market.Fixed(s.Value(market.FieldVolume24h).Float()/divisor, -9); v != want || s.Int(market.FieldVelocityReason) != 0 {
		w.t.Fatalf("velocity is %v, want %v", v, want)
	}
}
