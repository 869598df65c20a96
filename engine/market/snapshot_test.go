package market_test

import (
	"math"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

func TestVersions(t *testing.T) {
	s := market.Snapshot{Seq: 100}
	s.Stamp(market.AllFields)
	next := s
	next.Seq = 105
	next.Stamp(market.FieldPrice.Bit() | market.FieldSlug.Bit())
	f := func(since uint64, want market.Mask) {
		t.Helper()
		if got := next.ChangedSince(since); got != want {
			t.Errorf("since %d: %x, want %x", since, got, want)
		}
	}
	two := market.FieldPrice.Bit() | market.FieldSlug.Bit()
	f(0, market.AllFields)
	f(98, market.AllFields)
	f(99, market.AllFields)
	f(100, two)
	f(104, two)
	f(105, 0)
	f(math.MaxUint64, 0)
	if s.Version(market.FieldPrice) != 100 || next.Version(market.FieldPrice) != 105 || next.Version(market.FieldRank) != 100 {
		t.Error("versions")
	}
	var back market.Snapshot
	back.Seq = next.Seq
	versions := next.Versions()
	back.Restamp(next.VersionBase(), &versions)
	if back != next {
		t.Errorf("read back %+v, want %+v", back, next)
	}
}

// A lineage may outlive 32 bits: versions then move up, never down past the truth.
func TestVersionsRebase(t *testing.T) {
	s := market.Snapshot{Seq: 10}
	s.Stamp(market.AllFields)
	s.Seq = 10 + 4<<30
	s.Stamp(market.FieldRank.Bit())
	s.Seq = 10 + 5<<30
	s.Stamp(market.FieldPrice.Bit())
	if s.Version(market.FieldPrice) != s.Seq || s.Version(market.FieldRank) != 10+4<<30 || s.Version(market.FieldSlug) < 10 {
		t.Errorf("price %d, rank %d, slug %d", s.Version(market.FieldPrice), s.Version(market.FieldRank), s.Version(market.FieldSlug))
	}
	if s.ChangedSince(10) != market.AllFields || s.ChangedSince(10+4<<30) != market.FieldPrice.Bit() {
		t.Error("resuming would miss a change")
	}
}
