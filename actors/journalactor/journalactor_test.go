package journalactor_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/goleak"

	"github.com/velocimeter/velocimeter/actors/guard"
	"github.com/velocimeter/velocimeter/actors/journalactor"
	"github.com/velocimeter/velocimeter/engine/market"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store writes calls down; block and fail make it slow or broken.
type store struct {
	mu       sync.Mutex
	calls    []string
	appended uint64
	held     bool   // what is appended is not durable before the next Save
	durable  uint64 // while held
	hours    int
	saved    []market.HourCells // of the newest export
	fail     map[string]bool
	block    chan struct{} // Append waits for it; nil never
}

func (s *store) call(name string, n uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, fmt.Sprint(name, " ", n))
	if s.fail[name] {
		return errors.New("disk gone")
	}
	return nil
}

func (s *store) Reserve(upTo uint64) error { return s.call("reserve", upTo) }

func (s *store) Append(t *market.Tick) error {
	if s.block != nil {
		<-s.block
	}
	if err := s.call("append", t.Env.Seq); err != nil {
		return err
	}
	s.appended = t.Env.Seq
	return nil
}

func (s *store) Commit() (uint64, error) {
	if s.held {
		return s.durable, s.call("commit", s.appended)
	}
	return s.appended, s.call("commit", s.appended)
}

func (s *store) Save(e *market.Export) error {
	s.held = false
	s.hours, s.saved = len(e.Hours), e.Hours
	return s.call("save", e.Seq)
}

func (s *store) set(name string, broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail == nil {
		s.fail = map[string]bool{}
	}
	s.fail[name] = broken
}

func (s *store) count(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.calls {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

type journal struct {
	*journalactor.Handle
	wakes int
	stop  func()
}

func start(t *testing.T, s *store, window time.Duration, limits journalactor.Limits) *journal {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	ended := make(chan struct{})
	h, props := journalactor.New(journalactor.Deps{
		Journal: s, SyncWindow: window, Block: 8, Limits: limits,
		Guard: guard.New(log), Log: log, Stopped: func() { close(ended) },
	}, 1, 0, 8)
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return log }))
	pid := system.Root.Spawn(props)
	j := &journal{Handle: h}
	h.Bind(system, pid, func() { j.wakes++ })
	j.stop = func() {
		system.Root.Stop(pid)
		<-ended
		system.Shutdown()
	}
	return j
}

var roomy = journalactor.Limits{Count: 100, Bytes: 1 << 20}

func ticks(j *journal, from, to uint64) {
	for seq := from; seq <= to; seq++ {
		j.Append(&market.Tick{Env: market.Env{Seq: seq}})
	}
}

func TestGroupsCommitsWithinWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		j := start(t, s, time.Second, roomy)
		defer j.stop()
		ticks(j, 1, 3)
		synctest.Wait()
		if s.count("commit") != 0 || j.DurableSeq() != 0 {
			t.Errorf("committed before the window was over: %v", s.calls)
		}
		<-time.After(time.Second)
		synctest.Wait()
		if s.count("commit") != 1 || j.DurableSeq() != 3 {
			t.Errorf("after the window: %d commits, durable %d", s.count("commit"), j.DurableSeq())
		}
		<-time.After(time.Minute)
		if s.count("commit") != 1 {
			t.Errorf("an idle journal commits: %v", s.calls)
		}
	})
}

// Ticks behind lost ones are durable with the state that is saved for them, and
// the ledger says so at once: the next tick may be a minute away.
func TestDurableWithTheState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{held: true, durable: 2}
		j := start(t, s, 0, roomy)
		defer j.stop()
		ticks(j, 1, 4)
		synctest.Wait()
		if d := j.DurableSeq(); d != 2 {
			t.Errorf("durable %d while the store holds it at 2", d)
		}
		j.Save(&market.Export{Seq: 4})
		synctest.Wait()
		if d := j.DurableSeq(); d != 4 {
			t.Errorf("durable %d after the state of tick 4", d)
		}
	})
}

func TestWindowZeroCommitsEveryTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		j := start(t, s, 0, roomy)
		defer j.stop()
		ticks(j, 1, 2)
		synctest.Wait()
		if want := []string{"append 1", "commit 1", "append 2", "commit 2"}; !slices.Equal(s.calls, want) {
			t.Errorf("calls %v, want %v", s.calls, want)
		}
	})
}

func TestReservesAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		j := start(t, s, time.Second, roomy)
		defer j.stop()
		ticks(j, 1, 4)
		synctest.Wait()
		if s.count("reserve") != 0 {
			t.Errorf("reserved with half a block left: %v", s.calls)
		}
		ticks(j, 5, 5)
		synctest.Wait()
		if s.count("reserve 13") != 1 || !j.Reserved(13) || j.Reserved(14) {
			t.Errorf("calls %v, reserved 13: %v, 14: %v", s.calls, j.Reserved(13), j.Reserved(14))
		}
	})
}

// TestReserveIsTriedAgain covers the journal that must wake a supervisor which
// waits for a seq: no tick will come before it.
func TestReserveIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		j := start(t, s, time.Second, roomy)
		defer j.stop()
		s.set("reserve", true)
		ticks(j, 1, 8)
		synctest.Wait()
		if j.Reserved(9) {
			t.Fatal("a seq counts as reserved although the store refused")
		}
		<-time.After(10 * time.Second)
		s.set("reserve", false)
		<-time.After(10 * time.Second)
		synctest.Wait()
		if !j.Reserved(9) || j.wakes == 0 {
			t.Errorf("reserved: %v, supervisor woken %d times", j.Reserved(9), j.wakes)
		}
	})
}

// TestReserveIsTriedAgainAtWindowZero: the commit after every tick must not take
// the retry away.
func TestReserveIsTriedAgainAtWindowZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		j := start(t, s, 0, roomy)
		defer j.stop()
		s.set("reserve", true)
		ticks(j, 1, 8)
		synctest.Wait()
		if j.Reserved(9) {
			t.Fatal("a seq counts as reserved although the store refused")
		}
		s.set("reserve", false)
		<-time.After(time.Minute)
		synctest.Wait()
		if !j.Reserved(9) || j.wakes == 0 {
			t.Errorf("reserved: %v, supervisor woken %d times", j.Reserved(9), j.wakes)
		}
	})
}

func TestStoreErrorsDegrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		j := start(t, s, time.Second, roomy)
		defer j.stop()
		s.set("append", true)
		ticks(j, 1, 1)
		synctest.Wait()
		if st := j.Stats(); !st.Degraded || st.Lost != 1 || st.Failures != 1 {
			t.Errorf("stats = %+v", st)
		}
		if j.WantsState() {
			t.Error("an export is asked for that the store would refuse too")
		}
		s.set("append", false)
		s.set("commit", true)
		ticks(j, 2, 2)
		synctest.Wait()
		if !j.WantsState() || j.WantsState() {
			t.Error("a lost tick must ask for one export")
		}
		<-time.After(time.Second)
		synctest.Wait()
		if st := j.Stats(); st.DurableSeq != 0 || !st.Degraded || st.Lag == 0 {
			t.Errorf("after a failed commit: %+v", st)
		}
		s.set("commit", false)
		<-time.After(time.Minute)
		if st := j.Stats(); st.DurableSeq != 2 || st.Degraded || st.Lag != 0 {
			t.Errorf("after the retry: %+v", st)
		}
	})
}

// TestHoursOfFailedExportAreKept: the engine exports a closed hour once.
func TestHoursOfFailedExportAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		j := start(t, s, time.Second, roomy)
		defer j.stop()
		s.set("save", true)
		j.Save(&market.Export{Seq: 1, Hours: make([]market.HourCells, 3)})
		synctest.Wait()
		s.set("save", false)
		j.Save(&market.Export{Seq: 2, Hours: make([]market.HourCells, 2)})
		synctest.Wait()
		if s.hours != 5 || j.Stats().Degraded {
			t.Errorf("saved %d hours, want 5; degraded %v", s.hours, j.Stats().Degraded)
		}
		j.Save(&market.Export{Seq: 3})
		synctest.Wait()
		if s.hours != 0 {
			t.Errorf("saved %d hours again", s.hours)
		}
	})
}

// TestHoursOfRetiredTokensAreForgotten: kept hours of a token's former life must
// not reach the store together with the state of its next one.
func TestHoursOfRetiredTokensAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		j := start(t, s, time.Second, roomy)
		defer j.stop()
		f := func(broken string) {
			t.Helper()
			s.set("save", true)
			j.Save(&market.Export{Seq: 1, Hours: []market.HourCells{{ID: 1, Hour: 1}, {ID: 2, Hour: 2}, {ID: 1, Hour: 3}}})
			synctest.Wait()
			s.set("save", false)
			s.set(broken, true)
			j.Append(&market.Tick{Env: market.Env{Seq: 1}, Removed: []market.ID{1}})
			j.Save(&market.Export{Seq: 2, Hours: []market.HourCells{{ID: 1, Hour: 4}}})
			synctest.Wait()
			s.set(broken, false)
			want := []market.HourCells{{ID: 2, Hour: 2}, {ID: 1, Hour: 4}}
			if !slices.EqualFunc(s.saved, want, func(a, b market.HourCells) bool { return a.ID == b.ID && a.Hour == b.Hour }) {
				t.Errorf("saved %v, want %v", s.saved, want)
			}
		}
		f("nothing")
		f("append") // a tick that the store refuses retires its tokens all the same
	})
}

func TestRoomWhileDiskIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{block: make(chan struct{})}
		j := start(t, s, time.Second, journalactor.Limits{Count: 4, Bytes: 1 << 20})
		defer j.stop()
		ticks(j, 1, 1)
		synctest.Wait() // the first is in the store's hands
		ticks(j, 2, 4)
		if !j.Room() {
			t.Error("no room with 3 of 4 waiting")
		}
		ticks(j, 5, 5)
		if j.Room() {
			t.Error("room with 4 of 4 waiting")
		}
		s.block <- struct{}{}
		s.block <- struct{}{}
		synctest.Wait()
		if j.wakes != 0 {
			t.Error("woken before half of the queue was free")
		}
		s.block <- struct{}{}
		synctest.Wait()
		if j.wakes != 1 {
			t.Errorf("woken %d times, want 1", j.wakes)
		}
		close(s.block)
	})
}

func TestFinishWritesEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		j := start(t, s, time.Hour, roomy)
		ticks(j, 1, 50)
		done := make(chan error, 1)
		j.Finish(done)
		if err := <-done; err != nil || j.DurableSeq() != 50 {
			t.Errorf("finished with %v, durable %d", err, j.DurableSeq())
		}
		j.stop()

		j = start(t, s, time.Hour, roomy)
		s.set("commit", true)
		j.Finish(done)
		if err := <-done; err == nil {
			t.Error("a failed commit at the end is not told")
		}
		j.stop()
	})
}
