package integrity

import (
	"math"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

func TestStretchOf(t *testing.T) {
	ids := []market.ID{3, 5, 8, 9}
	f := func(next market.ID, n int, want stretch) {
		t.Helper()
		if got := stretchOf(ids, next, n); got != want {
			t.Errorf("%d from %d: %+v, want %+v", n, next, got, want)
		}
	}
	f(1, 2, stretch{from: 1, to: 7, n: 2, next: 8})
	f(8, 1, stretch{from: 8, to: 8, n: 1, next: 9})
	f(8, 2, stretch{from: 8, to: math.MaxUint32, n: 2, next: 1})
	f(6, 9, stretch{from: 6, to: math.MaxUint32, n: 2, next: 1})
	f(10, 2, stretch{from: 0, to: 7, n: 2, next: 8})
	f(1, 4, stretch{from: 1, to: math.MaxUint32, n: 4, next: 1})
}

// A pass over all is everybody once: those that nobody knows too, whose token may be in
// the store all the same. A shorter one is nobody twice.
func TestStretches(t *testing.T) {
	var ids []market.ID
	for i := range market.ID(2*batch + 7) {
		ids = append(ids, 3+3*i)
	}
	last := ids[len(ids)-1]
	for _, n := range []int{len(ids) + 1, len(ids), len(ids) - 1, batch + 1, 1} {
		for next := market.ID(1); next < last+4; next++ {
			seen, known := make([]int, last+5), 0
			for _, s := range stretches(ids, next, n) {
				for id := s.from; id <= min(s.to, last+4); id++ {
					seen[id]++
				}
			}
			for id, times := range seen {
				if times > 1 || times == 0 && n >= len(ids) {
					t.Fatalf("%d from %d on: token %d is in %d stretches", n, next, id, times)
				}
			}
			for _, id := range ids {
				known += seen[id]
			}
			if known != min(n, len(ids)) {
				t.Fatalf("%d from %d on: %d tokens", n, next, known)
			}
		}
	}
}

func TestSameReview(t *testing.T) {
	nan := math.NaN()
	a := &market.Review{LevelReference: nan, StepLimit: [3]float64{nan, 1, 2}}
	b := *a
	if !sameReview(a, &b) || !sameReview(nil, nil) || sameReview(a, nil) {
		t.Error("equal reviews differ")
	}
	if b.StepLimit[2] = 3; sameReview(a, &b) {
		t.Error("a limit is not compared")
	}
	b = *a
	if b.Rejected = []market.Rejection{{Field: market.FieldPrice}}; sameReview(a, &b) {
		t.Error("rejections are not compared")
	}
}
