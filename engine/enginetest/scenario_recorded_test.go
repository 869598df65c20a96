package enginetest_test

import (
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/tick"
)

// recorded counts what the engine made of a recorded series.
type recorded struct {
	rows, stepped, polls int            // rows of accepted polls; those with a step outlier
	volume, level, step  map[string]int // polls per symbol: flagged at all, by the level rule, by the step rule
	poisoned             []string
}

func replaySeries(t *testing.T, each func(b *market.Batch, tk *market.Tick)) *recorded {
	t.Helper()
	r := &recorded{volume: map[string]int{}, level: map[string]int{}, step: map[string]int{}}
	m := tick.NewMachine(tick.Config{Epoch: "test", Shards: 1, NextSeq: 1})
	for _, b := range coinlore(t) {
		m.Poll(b, b.ReceivedAt, func(tk *market.Tick) {
			if tk.Kind != market.TickPoll {
				return
			}
			each(b, tk)
			if tk.Verdict == market.Poisoned {
				r.poisoned = append(r.poisoned, b.ReceivedAt.Std().Format(time.RFC3339))
				return
			}
			r.polls++
			tk.Board.All(func(s *market.Snapshot) bool {
				r.add(s, tk.Verdict == market.Accepted)
				return true
			})
		})
	}
	return r
}

func (r *recorded) add(s *market.Snapshot, accepted bool) {
	symbol := s.Info.Symbol
	if s.Flags()&market.FlagOutlierVolume != 0 {
		r.volume[symbol]++
	}
	if accepted {
		r.rows++
	}
	if !s.Flags().Excluded() {
		return
	}
	level, step := false, false
	for _, x := range s.Review.Rejected {
		level = level || x.Time == s.SourceTime() && x.Rule == market.RuleLevel
		step = step || x.Time == s.SourceTime() && x.Rule == market.RuleStep
	}
	if level {
		r.level[symbol]++
	}
	if step && accepted {
		r.step[symbol]++
		r.stepped++
	}
}

// TestRecordedSeries replays a month of real answers and holds the rules to
// what was measured on it.
func TestRecordedSeries(t *testing.T) {
	before := map[market.ID]*market.Snapshot{}
	r := replaySeries(t, func(b *market.Batch, tk *market.Tick) {
		if tk.Verdict == market.Poisoned {
			if tk.Rows() != 0 {
				t.Errorf("the poisoned poll has %d rows", tk.Rows())
			}
			tk.Board.All(func(s *market.Snapshot) bool {
				if before[s.ID] != s {
					t.Errorf("the poisoned poll changed %s", s.Info.Symbol)
				}
				return true
			})
		}
		tk.Board.All(func(s *market.Snapshot) bool {
			before[s.ID] = s
			checkVelocity(t, s)
			return true
		})
	})

	if len(r.poisoned) != 1 || r.poisoned[0] != "2025-11-02T00:48:48Z" {
		t.Errorf("poisoned polls: %v, want the one of 2025-11-02T00:48:48Z", r.poisoned)
	}
	want := map[string]int{"XAUT": 1450, "XMR": 1184, "BTC": 101}
	for symbol, n := range r.level {
		if want[symbol] == 0 {
			t.Errorf("%s is a level outlier in %d polls, want none", symbol, n)
		}
	}
	for symbol, n := range want {
		if r.level[symbol] != n || r.volume[symbol] != n {
			t.Errorf("%s is a level outlier in %d polls and flagged in %d, want %d", symbol, r.level[symbol], r.volume[symbol], n)
		}
	}
	if share := float64(r.stepped) / float64(r.rows); share < 0.0001 || share > 0.002 {
		t.Errorf("%d of %d rows are step outliers, want 0.01 to 0.2 %%: %v", r.stepped, r.rows, r.step)
	}
	t.Logf("%d polls, %d rows, %d with a step outlier: %v; volume flagged: %v", r.polls, r.rows, r.stepped, r.step, r.volume)
}

// checkVelocity recomputes what is shown from what is shown.
func checkVelocity(t *testing.T, s *market.Snapshot) {
	t.Helper()
	want := market.Null
	if c := s.Value(market.FieldMarketCap); c.Positive() {
		want = market.Fixed(s.Value(market.FieldVolume24h).Float()/c.Float(), -9)
	}
	if got := s.Value(market.FieldVelocity); got != want {
		t.Fatalf("%s: velocity is %v, want %v", s.Info.Symbol, got, want)
	}
}
