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
	// One stretch behind the other is everybody, nobody twice.
	for n := 1; n < 6; n++ {
		seen := map[market.ID]int{}
		for next, left := market.ID(5), len(ids); left > 0; {
			s := stretchOf(ids, next, min(n, left))
			for _, id := range ids {
				if id >= s.from && id <= s.to {
					seen[id]++
				}
			}
			left, next = left-s.n, s.next
		}
		for _, id := range ids {
			if seen[id] != 1 {
				t.Errorf("%d at a time: token %d is in %d stretches", n, id, seen[id])
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
