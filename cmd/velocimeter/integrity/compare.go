package integrity

import (
	"fmt"
	"math"
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// sink takes the differences of one token.
type sink struct {
	rep *Report
	to  Difference // kind, token and seq
}

func (s *sink) differ(field string, served, recomputed any) {
	d := s.to
	d.Field, d.Served, d.Recomputed = field, fmt.Sprint(served), fmt.Sprint(recomputed)
	d.What = "is not what store and journal give"
	s.rep.add(d)
}

// compareSnapshots holds a served token against one that was computed again.
func (s *sink) compareSnapshots(served, again *market.Snapshot) {
	s.rep.Values += market.NumFields
	if *served.Info != *again.Info {
		s.differ("names", *served.Info, *again.Info)
	}
	if !sameReview(served.Review, again.Review) {
		s.differ("review", shownReview(served.Review), shownReview(again.Review))
	}
	a, b := *served, *again
	a.Info, a.Review, b.Info, b.Review = nil, nil, nil, nil
	if a == b {
		return
	}
	for f := market.Field(1); f <= market.NumFields; f++ {
		if f <= market.NumNumeric && served.Value(f) != again.Value(f) {
			s.differ(f.String(), served.Value(f), again.Value(f))
		}
		if served.Version(f) != again.Version(f) {
			s.differ("version of "+f.String(), served.Version(f), again.Version(f))
		}
	}
	for _, c := range []struct {
		name string
		a, b any
	}{
		{"samples", a.Samples, b.Samples},
		{"seq", a.Seq, b.Seq},
		{"received_at", a.ReceivedAt, b.ReceivedAt},
		{"accepted price", a.AcceptedPrice, b.AcceptedPrice},
		{"accepted cap", a.AcceptedCap, b.AcceptedCap},
		{"accepted volume", a.AcceptedVolume, b.AcceptedVolume},
	} {
		if c.a != c.b {
			s.differ(c.name, c.a, c.b)
		}
	}
}

// compareSample holds what a stored tick showed against the same, computed again.
func (s *sink) compareSample(stored, again *record.Sample) {
	s.rep.Values += 5
	if *stored == *again {
		return
	}
	for _, c := range []struct {
		name string
		a, b any
	}{
		{"price", stored.Price, again.Price},
		{"market_cap", stored.Cap, again.Cap},
		{"volume_24h", stored.Volume, again.Volume},
		{"velocity", stored.Velocity, again.Velocity},
		{"flags", stored.Flags, again.Flags},
	} {
		if c.a != c.b {
			s.differ(c.name, c.a, c.b)
		}
	}
}

// sameReview compares with NaN equal to itself.
func sameReview(a, b *market.Review) bool {
	if a == nil || b == nil {
		return a == b
	}
	same := slices.Equal(a.Rejected, b.Rejected) && sameFloat(a.LevelReference, b.LevelReference)
	for i := range a.StepLimit {
		same = same && sameFloat(a.StepLimit[i], b.StepLimit[i])
	}
	return same
}

func sameFloat(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }

func shownReview(r *market.Review) string {
	if r == nil {
		return "none"
	}
	return fmt.Sprintf("%d rejections, level %v, steps %v", len(r.Rejected), r.LevelReference, r.StepLimit)
}
