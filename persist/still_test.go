package persist

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Where the engine's clock stands, pages of raw history stay as short as asked
// for and leave nothing out; where it runs again, ticks have their own time.
func TestStillClock(t *testing.T) {
	const still, more, limit = 100, 3, 7
	w := newWalk(t, 4, testOptions(vfs.NewMem()), 1)
	w.mk.dirty, w.mk.share = false, 1
	begin := w.mk.now
	for range still {
		w.append(0)
	}
	for range more {
		w.append(market.Second)
	}
	w.commit()
	check := func() {
		t.Helper()
		q := market.HistoryQuery{ID: w.mk.ids[0], From: begin, To: w.mk.now + 1, Limit: limit}
		var points []market.Point
		for {
			page, err := w.s.History(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Points) > limit {
				t.Fatalf("a page of %d points, asked for %d", len(page.Points), limit)
			}
			points = append(points, page.Points...)
			if q.After = page.Next; q.After == 0 {
				break
			}
		}
		if len(points) != still+more {
			t.Fatalf("%d points on all pages, want %d", len(points), still+more)
		}
		for i, p := range points {
			want := begin + market.Time(i)
			if i >= still {
				want = begin.Add(market.Millis(i-still+1) * market.Second)
			}
			if p.Seq != uint64(i+1) || p.Time != want {
				t.Fatalf("point %d: seq %d at %d, want %d", i, p.Seq, p.Time, want)
			}
		}
	}
	check()
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	check()
	if rec := w.s.Recovery(); rec.Time != w.mk.now {
		t.Errorf("recovered time %d, want %d", rec.Time, w.mk.now)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}

// Filing runs ahead of a clock that stands; a restart goes on from both.
func TestStillClockOverRestart(t *testing.T) {
	w := newWalk(t, 4, testOptions(vfs.NewMem()), 1)
	w.mk.dirty, w.mk.share = false, 1
	begin := w.mk.now
	for n := range 3 {
		for range 5 {
			w.append(0)
		}
		if n == 1 {
			w.save()
		}
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
		w.open()
		if rec := w.s.Recovery(); rec.Time != begin {
			t.Fatalf("recovered time %d, want the engine's, %d", rec.Time, begin)
		}
	}
	page, err := w.s.History(t.Context(), market.HistoryQuery{ID: w.mk.ids[0], From: begin, To: begin + 100, Limit: 100})
	if err != nil || len(page.Points) != 15 {
		t.Fatalf("history %+v, %v", page, err)
	}
	for i, p := range page.Points {
		if p.Time != begin+market.Time(i) {
			t.Errorf("point %d is at %d, want %d", i, p.Time, begin+market.Time(i))
		}
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}

// Retirements are told in engine time, whatever the tick is filed under.
func TestTombstonesOfStillClock(t *testing.T) {
	w := newWalk(t, 4, testOptions(vfs.NewMem()), 1)
	w.mk.dirty = false
	w.append(0)
	w.append(0)
	tick := w.mk.step(w.next, 0)
	tick.Removed = []market.ID{99}
	if err := w.s.Append(tick); err != nil {
		t.Fatal(err)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	want := market.Tombstone{ID: 99, Seq: 3, Time: w.mk.now}
	if got := w.s.Recovery().Tombstones; len(got) != 1 || got[0] != want {
		t.Errorf("tombstones %+v, want %+v", got, want)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A store of before instants were unique loses no point between two pages.
func TestEqualInstantsStayTogether(t *testing.T) {
	w := newWalk(t, 4, testOptions(vfs.NewMem()), 1)
	w.mk.dirty, w.mk.share = false, 1
	begin := w.mk.now
	for n := range 6 {
		if n%3 > 0 {
			w.s.at--
		}
		w.append(market.Millis(max(1-n%3, 0)) * market.Second)
	}
	w.commit()
	points, _, _ := w.walked(market.HistoryQuery{ID: w.mk.ids[0], From: begin, To: w.mk.now + 1, Limit: 2})
	if len(points) != 6 || points[0].Time != points[2].Time {
		t.Errorf("%d points, want 6 of two instants", len(points))
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}

// An export may carry closed hours of one that failed, and with them hours of a
// token that has retired since: its next life must begin without them.
func TestHoursOfRetiredTokens(t *testing.T) {
	w := newWalk(t, 3, testOptions(vfs.NewMem()), 2)
	w.mk.dirty, w.mk.share = false, 1
	w.append(market.Second)
	gone, stays := w.mk.ids[0], w.mk.ids[1]
	hour := w.mk.now - w.mk.now%market.Time(market.Hour) - market.Time(market.Hour)
	hours := []market.HourCells{
		{ID: gone, Hour: hour, Cells: []market.Cell{{Time: hour, Price: 1}}},
		{ID: stays, Hour: hour, Cells: []market.Cell{{Time: hour, Price: 2}}},
	}
	w.save() // with both tokens, without their hours
	old := w.mk.tokens[gone]
	delete(w.mk.tokens, gone)
	tick := w.mk.step(w.next, market.Second)
	tick.Parts, tick.Removed = nil, []market.ID{gone}
	if err := w.s.Append(tick); err != nil {
		t.Fatal(err)
	}
	delete(w.mk.tokens, gone)
	e := w.mk.export(w.next)
	e.Hours = hours
	if err := w.s.Save(e); err != nil {
		t.Fatal(err)
	}
	w.next++
	w.append(market.Second)
	w.mk.tokens[gone] = old
	w.save() // the token is back
	cells := map[market.ID]int{}
	err := w.s.Tokens(1, func(ts market.TokenState, c []market.Cell) error {
		cells[ts.ID] = len(c)
		return nil
	})
	if err != nil || len(cells) != 2 || cells[gone] != 0 || cells[stays] != 1 {
		t.Errorf("cells %v, %v; want none of token %d, one of %d", cells, err, gone, stays)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAbandon(t *testing.T) {
	w := newWalk(t, 5, testOptions(vfs.NewMem()), 3)
	for range 4 {
		w.append(market.Second)
	}
	w.commit()
	w.append(market.Second)
	reserved := w.s.reserved
	for range 2 {
		if err := w.s.Abandon(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.s.Close(); err != nil { // must not seal afterwards
		t.Fatal(err)
	}
	w.open()
	rec := w.s.Recovery()
	if rec.Clean || rec.DurableSeq != 4 || rec.NextSeq != reserved+1 ||
		len(rec.Lost) != 1 || rec.Lost[0] != (LostRange{From: 4, To: reserved}) {
		t.Errorf("recovered %+v", rec)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}

// The journal may still be writing when the program gives up waiting for it.
func TestEndWhileWriting(t *testing.T) {
	f := func(end func(*Store) error, clean bool) {
		t.Helper()
		w := newWalk(t, 6, testOptions(vfs.NewMem()), 3)
		if err := w.s.Reserve(1 << 20); err != nil {
			t.Fatal(err)
		}
		begun, done := make(chan struct{}), make(chan error, 1)
		var appended uint64
		go func() {
			var err error
			for seq := uint64(1); err == nil; seq++ {
				if seq == 20 {
					close(begun)
				}
				if err = w.s.Append(w.mk.step(seq, market.Second)); err == nil {
					appended = seq
					_, err = w.s.Commit()
				}
				if err == nil && seq%5 == 0 {
					err = w.s.Save(w.mk.export(seq))
				}
				if err == nil {
					err = w.s.Reserve(1<<20 + seq)
				}
			}
			done <- err
		}()
		<-begun
		if err := end(w.s); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Fatalf("the writer got %v, want ErrClosed", err)
		}
		w.open()
		rec := w.s.Recovery()
		if rec.Clean != clean || clean && rec.DurableSeq != appended || len(rec.Damage) != 0 {
			t.Errorf("appended %d, recovered %+v", appended, rec)
		}
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f((*Store).Close, true)
	f((*Store).Abandon, false)
}
