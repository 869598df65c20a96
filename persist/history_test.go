package persist

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
)

// An error of the one who takes points ends the reading, and is told.
func TestEachPointEnds(t *testing.T) {
	w := newWalk(t, 3, testOptions(vfs.NewMem()), 2)
	defer func() { _ = w.s.Close() }()
	w.mk.dirty, w.mk.share = false, 1
	for range 300 { // two days, so that every way of reading has something
		w.append(10 * market.Minute)
	}
	w.commit()
	w.save()
	enough := errors.New("enough")
	for g := range market.NumGranularities {
		n := 0
		q := market.HistoryQuery{ID: w.mk.ids[0], To: w.mk.now + 1, Granularity: g, Limit: 100}
		err := w.s.EachPoint(t.Context(), q, &market.HistoryPage{}, func(*market.Point) error {
			n++
			return enough
		})
		if !errors.Is(err, enough) || n != 1 {
			t.Errorf("%s: %v after %d points", g, err, n)
		}
	}
}
