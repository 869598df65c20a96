package actors_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/velocimeter/velocimeter/actors"
	"github.com/velocimeter/velocimeter/engine/market"
)

// TestReplayLosesNothingOnSlowDisk lets the disk take a tick a second, with room
// for two.
func TestReplayLosesNothingOnSlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		polls := recording(30, 10)
		slow, stop := make(chan struct{}), make(chan struct{})
		r := run(t, machine(2), &tape{batches: polls}, func(c *actors.Config) {
			c.Journal.(*disk).slow = slow
			c.JournalTicks = 2
		})
		go everySecond(slow, stop)
		<-time.After(5 * time.Second)
		if st := r.Status(); !st.StorageLagging || st.Market.Holds == 0 {
			t.Errorf("not lagging on a slow disk: %+v", st.Market)
		}
		if err := <-r.ended; err != nil {
			t.Fatal(err)
		}
		r.close()
		n := 0
		for _, tick := range r.disk.ticks {
			if tick.Kind == market.TickPoll {
				n++
			}
		}
		if n != len(polls) {
			t.Errorf("%d polls journaled of %d", n, len(polls))
		}
		close(stop)
	})
}

func everySecond(c chan<- struct{}, stop <-chan struct{}) {
	for {
		select {
		case <-time.After(time.Second):
		case <-stop:
			return
		}
		select {
		case c <- struct{}{}:
		case <-stop:
			return
		}
	}
}

// TestLiveConflatesOnSlowDisk holds the disk for a while: polls that come
// meanwhile are replaced by the newest, and the stream goes on afterwards.
func TestLiveConflatesOnSlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetch, polls := counting(5)
		slow := make(chan struct{})
		r := run(t, machine(2), nil, func(c *actors.Config) {
			live(c, market.Second, fetch)
			c.Journal.(*disk).slow = slow
			c.JournalTicks = 4
		})
		<-time.After(60 * time.Second)
		synctest.Wait()
		held := r.Status()
		if !held.StorageLagging || held.Market.Conflated < 50 || held.Market.Waiting != 1 || held.Journal.Waiting > 5 {
			t.Errorf("market %+v, journal %+v", held.Market, held.Journal)
		}
		newest := *polls
		close(slow)
		synctest.Wait()
		st := r.Status()
		if st.StorageLagging {
			t.Errorf("still lagging: %+v", st.Market)
		}
		if got := r.disk.ticks[len(r.disk.ticks)-1].Position; got != uint64(newest) {
			t.Errorf("the tick after the stall is of poll %d, want the newest, %d", got, newest)
		}
		r.close()
	})
}

func TestStoreErrorsDoNotStopTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetch, _ := counting(5)
		r := run(t, machine(2), nil, func(c *actors.Config) { live(c, market.Second, fetch) })
		<-time.After(9*time.Second + time.Millisecond)
		synctest.Wait()
		r.disk.breakWith(errDisk)
		<-time.After(10 * time.Second)
		synctest.Wait()
		st := r.Status()
		if !st.Journal.Degraded || st.Journal.Lost != 10 || r.Board().Seq != 20 {
			t.Errorf("seq %d, journal %+v", r.Board().Seq, st.Journal)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := r.Close(ctx); !errors.Is(err, errDisk) {
			t.Errorf("close says %v", err)
		}
	})
}

// TestNoSeqIsUsedUnreserved has the store refuse to reserve: the stream stops at
// the end of the block rather than use a seq that a crash could give out again.
func TestNoSeqIsUsedUnreserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetch, _ := counting(5)
		r := run(t, machine(2), nil, func(c *actors.Config) {
			live(c, market.Second, fetch)
			c.SeqBlock = 8
		})
		r.disk.refuse(true)
		<-time.After(time.Minute)
		synctest.Wait()
		if st := r.Status(); r.Board().Seq != 8 || !st.StorageLagging {
			t.Errorf("seq %d with 8 reserved; lagging %v", r.Board().Seq, st.StorageLagging)
		}
		r.disk.refuse(false)
		<-time.After(time.Minute)
		synctest.Wait()
		if st := r.Status(); r.Board().Seq < 60 || st.StorageLagging {
			t.Errorf("seq %d a minute later; lagging %v", r.Board().Seq, st.StorageLagging)
		}
		r.close()
	})
}
