package persist

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
)

// What was imported is sound, beside ticks and without, in any order.
func TestImportVerifies(t *testing.T) {
	t.Parallel()
	all, ticks := source(t, 11)
	first := ticks[0].Env.Now
	orders := [][]market.Granularity{{0}, {6, 5, 4, 3, 2, 1}, {3, 6}, {5, 2, 4, 1}, {4}, {2}}
	if testing.Short() {
		orders = orders[:3]
	}
	for _, live := range []bool{false, true} {
		for _, order := range orders {
			o := testOptions(vfs.NewMem())
			s := mustOpen(t, o)
			if live {
				feed(t, s, ticks, func(at market.Time) bool { return at.Sub(first) < 10*market.Hour || at.Sub(first) > 35*market.Hour })
			}
			for _, g := range order {
				for _, policy := range []ImportPolicy{ImportKeep, ImportReplace} {
					io := importOptions(o, g)
					io.Policy = policy
					importRows(t, s, io, withoutFlags(all[g]))
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			rep, err := Verify(t.Context(), VerifyOptions{Dir: "/data/live", FS: o.FS})
			if err != nil || !rep.Sound() {
				t.Fatalf("live %v, order %v: %v, %+v", live, order, err, rep)
			}
		}
	}
}
