package actors_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/velocimeter/velocimeter/actors"
	"github.com/velocimeter/velocimeter/engine/market"
)

func TestCloseTakesWhatArrived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetch, polls := counting(5)
		slow := make(chan struct{})
		r := run(t, machine(2), nil, func(c *actors.Config) {
			live(c, market.Second, fetch)
			c.Journal.(*disk).slow = slow
		})
		<-time.After(4*time.Second + time.Millisecond)
		synctest.Wait()
		go func() {
			<-time.After(10 * time.Second)
			close(slow)
		}()
		r.close()
		if len(r.disk.ticks) != *polls || *polls != 5 {
			t.Errorf("%d ticks of %d polls", len(r.disk.ticks), *polls)
		}
	})
}

// TestCloseTakesWhatWaits closes while the newest batch still waits in the
// supervisor's mailbox because the journal is full.
func TestCloseTakesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetch, polls := counting(5)
		slow := make(chan struct{})
		r := run(t, machine(2), nil, func(c *actors.Config) {
			live(c, market.Second, fetch)
			c.Journal.(*disk).slow = slow
			c.JournalTicks = 1
		})
		<-time.After(10*time.Second + time.Millisecond)
		synctest.Wait()
		if st := r.Status(); st.Market.Waiting != 1 || !st.StorageLagging {
			t.Fatalf("nothing waits: %+v", st.Market)
		}
		go func() {
			<-time.After(10 * time.Second)
			close(slow)
		}()
		r.close()
		if got := r.disk.ticks[len(r.disk.ticks)-1].Position; got != uint64(*polls) {
			t.Errorf("the last journaled poll is %d of %d", got, *polls)
		}
	})
}

// TestCloseHasDeadline covers each party that may not end.
func TestCloseHasDeadline(t *testing.T) {
	f := func(want string, wait time.Duration, change func(c *actors.Config, release chan struct{})) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			r := run(t, machine(2), nil, func(c *actors.Config) { change(c, release) })
			<-time.After(3 * time.Second)
			begun := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			err := r.Close(ctx)
			if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("close says %v, want %q", err, want)
			}
			if took := time.Since(begun); took != wait {
				t.Errorf("took %v", took)
			}
			if again := r.Close(context.Background()); again != err {
				t.Errorf("second close says %v", again)
			}
			close(release)
			synctest.Wait()
		})
	}
	f("cannot stop fetchers in time", 5*time.Second, func(c *actors.Config, release chan struct{}) {
		live(c, market.Second, func(context.Context) (*market.Batch, error) {
			<-release
			return nil, io.EOF
		})
	})
	f("cannot stop journal in time", 10*time.Second, func(c *actors.Config, release chan struct{}) {
		fetch, _ := counting(5)
		live(c, market.Second, fetch)
		c.Journal.(*disk).slow = release
	})
}

func TestCloseTwice(t *testing.T) {
	r := run(t, machine(2), &tape{batches: recording(3, 5)}, nil)
	<-r.ended
	r.close()
	r.close()
}

func TestCloseBeforeFirstBatch(t *testing.T) {
	r := run(t, machine(2), nil, nil)
	r.close()
	if len(r.disk.exports) != 0 {
		t.Error("an empty market was exported over what the store has")
	}
}
