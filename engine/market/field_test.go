package market_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// The table is a contract: ids, names and views may grow, never move.
func TestFieldTable(t *testing.T) {
	f := func(id int, name, rest string, scale int8, views string) {
		t.Helper()
		s := market.Specs()[id-1]
		in := ""
		for _, v := range []market.View{market.ViewQuote, market.ViewVelocity, market.ViewFull} {
			if s.Views.Has(v) {
				in = fmt.Sprint(in, v.String()[:1])
			}
		}
		if int(s.Field) != id || s.Name != name || s.REST != rest || s.Scale != scale || in != views {
			t.Errorf("field %d is %+v in %q", id, s, in)
		}
		if got, ok := market.ParseField(name); !ok || int(got) != id {
			t.Errorf("ParseField(%q) = %d, %v", name, got, ok)
		}
	}
	const provider = market.ScaleAsProvider
	f(1, "price", "price", provider, "qvf")
	f(6, "percent_change_7d", "percent_change.7d", -4, "f")
	f(7, "velocity", "velocity", -9, "vf")
	f(10, "velocity_direction_1h", "velocity_trend.1h.direction", 0, "vf")
	f(14, "velocity_direction_7d", "velocity_trend.7d.direction", 0, "vf")
	f(15, "velocity_change_1h", "velocity_trend.1h.change_pct", -4, "vf")
	f(24, "velocity_slope_7d", "velocity_trend.7d.slope_per_hour", -9, "f")
	f(25, "velocity_coverage_1h", "velocity_trend.1h.coverage", -2, "f")
	f(30, "vwap_1h", "vwap.1h", provider, "f")
	f(33, "volatility_24h", "volatility_24h", -6, "f")
	f(39, "rank", "rank", 0, "qf")
	f(40, "flags", "flags", 0, "qvf")
	f(42, "source_time", "provenance.source_time", 0, "f")
	f(45, "spread_bps", "provenance.spread_bps", -1, "f")
	f(48, "slug", "slug", 0, "qvf")
	for i, s := range market.Specs() {
		if int(s.Field) != i+1 || s.Name == "" {
			t.Errorf("field %d has no place: %+v", i+1, s)
		}
	}
}

func TestFlagBits(t *testing.T) {
	names := market.FlagNames()
	if market.FlagOutlierPrice != 1 || market.FlagSimulated != 1<<13 || len(names) != 14 || names[13] != "simulated" {
		t.Errorf("flags moved: %v", names)
	}
	if !market.FlagQuarantined.Excluded() || market.FlagLowLiquidity.Excluded() {
		t.Error("the excluding flags are the first four")
	}
}

func TestMask(t *testing.T) {
	m := market.MaskOf(market.FieldSlug, market.FieldPrice, market.FieldRank)
	if got := slices.Collect(m.Fields()); !slices.Equal(got, []market.Field{1, 39, 48}) || m.Len() != 3 {
		t.Errorf("fields %v", got)
	}
	if m.Has(market.FieldVelocity) || !m.Has(market.FieldRank) || market.AllFields.Len() != market.NumFields {
		t.Error("wrong membership")
	}
	if market.ViewQuote.Mask() != market.MaskOf(1, 2, 3, 4, 5, 39, 40, 41) || market.ViewFull.Mask() != market.NumericFields {
		t.Errorf("views %b %b", market.ViewQuote.Mask(), market.ViewFull.Mask())
	}
}

func TestNames(t *testing.T) {
	if v, ok := market.ParseView("velocity"); !ok || v != market.ViewVelocity {
		t.Error("view")
	}
	if _, ok := market.ParsePeriod("2h"); ok {
		t.Error("accepted 2h")
	}
	if g, ok := market.ParseGranularity("15m"); !ok || g.Width() != 15*market.Minute {
		t.Error("granularity")
	}
	if market.Direction(99).String() != "unknown" || market.MethodNone.String() != "" {
		t.Error("names")
	}
}

func TestBoardLookup(t *testing.T) {
	b := &market.Board{Shards: make([][]*market.Snapshot, 8), Index: make([]map[market.ID]int32, 8)}
	for i := range b.Index {
		b.Index[i] = map[market.ID]int32{}
	}
	counts := make([]int, 8)
	for id := range market.ID(4000) {
		s := market.ShardOf(id, 8)
		counts[s]++
		b.Index[s][id] = int32(len(b.Shards[s]))
		b.Shards[s] = append(b.Shards[s], &market.Snapshot{ID: id})
	}
	for id := range market.ID(4000) {
		if s := b.Token(id); s == nil || s.ID != id {
			t.Fatalf("token %d is %v", id, s)
		}
	}
	if b.Token(4001) != nil || b.Len() != 4000 {
		t.Error("wrong size")
	}
	if lo, hi := slices.Min(counts), slices.Max(counts); lo < 300 || hi > 700 {
		t.Errorf("shards are uneven: %v", counts)
	}
}
