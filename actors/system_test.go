package actors_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/velocimeter/velocimeter/actors"
	"github.com/velocimeter/velocimeter/engine/market"
)

// TestReplayEqualsMachine runs a recording through the actors and through the
// engine alone: every tick must be the same, clock ticks included, whatever the
// number of shards.
func TestReplayEqualsMachine(t *testing.T) {
	polls := recording(120, 30)
	var want []*market.Tick
	clocks := 0
	reference := machine(3)
	for _, b := range polls {
		reference.Poll(b, b.ReceivedAt, func(t *market.Tick) {
			want = append(want, t)
			if t.Kind == market.TickClock {
				clocks++
			}
		})
	}
	if clocks == 0 {
		t.Fatal("the recording causes no clock tick: the test is too easy")
	}
	for _, shards := range []int{1, 8} {
		r := run(t, machine(shards), &tape{batches: polls}, nil)
		if err := <-r.ended; err != nil {
			t.Fatal(err)
		}
		r.close()
		sameTicks(t, r.disk.ticks, want)
	}
}

// TestRestoredSystemGoesOn takes the export of a stopped system, restores it
// into new shards and compares with an engine that was never stopped.
func TestRestoredSystemGoesOn(t *testing.T) {
	polls := recording(120, 20)
	var want []*market.Tick
	reference := machine(2)
	for _, b := range polls {
		reference.Poll(b, b.ReceivedAt, func(t *market.Tick) { want = append(want, t) })
	}
	first := run(t, machine(2), &tape{batches: polls[:70]}, nil)
	<-first.ended
	first.close()

	m := machine(5)
	export := first.disk.exports[len(first.disk.exports)-1]
	cells := map[market.ID][]market.Cell{}
	for _, e := range first.disk.exports {
		for _, h := range e.Hours {
			cells[h.ID] = append(cells[h.ID], h.Cells...)
		}
	}
	for _, ts := range export.Tokens {
		if err := m.Restore(ts, cells[ts.ID]); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Engine.Restore(export.Engine); err != nil {
		t.Fatal(err)
	}
	m.Resume(export.Seq + 1)
	second := run(t, m, &tape{batches: polls[70:]}, nil)
	<-second.ended
	second.close()
	sameTicks(t, append(first.disk.ticks, second.disk.ticks...), want)
}

// TestBrokenShard has one shard panic at everything: the others go on, ticks
// seal, and no export without its tokens replaces what the store has.
func TestBrokenShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetch, polls := counting(20)
		m := machine(2)
		m.Shards[1] = nil
		r := run(t, m, nil, func(c *actors.Config) { live(c, market.Second, fetch) })
		<-time.After(2 * time.Minute)
		synctest.Wait()
		if got := r.Board(); got.Seq < 100 || len(got.Shards[0]) == 0 || len(got.Shards[1]) != 0 {
			t.Errorf("seq %d, %d and %d tokens", got.Seq, len(got.Shards[0]), len(got.Shards[1]))
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
		if len(r.disk.ticks) != *polls || len(r.disk.exports) != 0 {
			t.Errorf("%d ticks of %d polls, %d exports", len(r.disk.ticks), *polls, len(r.disk.exports))
		}
	})
}

func TestPanicsOfPortsAreSurvived(t *testing.T) {
	r := run(t, machine(2), &tape{batches: recording(20, 5)}, func(c *actors.Config) {
		c.Publisher.(*screen).on = func(*market.Tick) { panic("publisher") }
	})
	<-r.ended
	r.close()
	if st := r.Status(); st.Market.Polls != 20 || st.Panics < 20 || len(r.PanicReports()) == 0 {
		t.Errorf("status %+v", st)
	}
}

func TestConfigRefusesTwoKindsOfTime(t *testing.T) {
	c := config(machine(2))
	c.Journal, c.Publisher = &disk{}, &screen{}
	c.Replays = []actors.Replay{{Name: "tape", Feed: &tape{}}}
	live(&c, market.Second, nil)
	if _, err := actors.Start(c); err == nil || !strings.Contains(err.Error(), "providers and replays") {
		t.Errorf("error %v", err)
	}
}

func TestConfigNamesEverythingMissing(t *testing.T) {
	_, err := actors.Start(actors.Config{Engine: machine(2).Engine})
	for _, want := range []string{"shards", "a clock", "a logger", "a publisher", "a journal", "0 shards"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %q", err, want)
		}
	}
}
