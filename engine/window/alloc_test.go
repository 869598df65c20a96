//go:build !race

package window_test

import (
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/window"
)

// A full window takes samples, is read, saved and undone without allocating.
func TestFullWindowAllocatesNothing(t *testing.T) {
	w := window.New(window.Config{})
	now := fill(&w, start, 8*1440, market.Minute)
	var m window.Mark
	got := testing.AllocsPerRun(2000, func() {
		now = now.Add(31 * market.Second)
		w.Save(&m)
		w.Add(window.Sample{Time: now, Price: 1, Volume: 1, Velocity: 1})
		w.Restore(&m)
		w.Add(window.Sample{Time: now, Price: 1, Volume: 1, Velocity: 1})
		sink += read(&w)
		if w.ExceedsMedian(0.6, 10) {
			sink++
		}
	})
	if got != 0 {
		t.Errorf("%v allocations a sample", got)
	}
}
