package mailbox_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/goleak"

	"github.com/velocimeter/velocimeter/actors/guard"
	"github.com/velocimeter/velocimeter/actors/mailbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newGuard() *guard.Guard { return guard.New(slog.New(slog.DiscardHandler)) }

// invoker writes down what it is told; on may panic or post further messages.
type invoker struct {
	mu   sync.Mutex
	got  []any
	on   func(msg any)
	fail []any // messages that were escalated
}

func (v *invoker) InvokeSystemMessage(msg any) { v.InvokeUserMessage(msg) }

func (v *invoker) InvokeUserMessage(msg any) {
	v.mu.Lock()
	v.got = append(v.got, msg)
	v.mu.Unlock()
	if v.on != nil {
		v.on(msg)
	}
}

func (v *invoker) EscalateFailure(_, msg any) { v.fail = append(v.fail, msg) }

// later is a dispatcher that runs when it is told to.
type later struct{ fns []func() }

func (d *later) Schedule(f func()) { d.fns = append(d.fns, f) }
func (*later) Throughput() int     { return 0 }

func (d *later) run() {
	for len(d.fns) > 0 {
		f := d.fns[0]
		d.fns = d.fns[1:]
		f()
	}
}

type data struct{ n, size, slot int }

func (d data) Bytes() int { return d.size }
func (d data) Slot() int  { return d.slot }

func plain(n int) data { return data{n: n, size: 1, slot: -1} }

func lanes(l mailbox.Limits) (*mailbox.Lanes, *invoker, *later) {
	v, d := &invoker{}, &later{}
	m := mailbox.NewLanes(newGuard(), l)
	m.RegisterHandlers(v, d)
	return m, v, d
}

func TestLanesOrder(t *testing.T) {
	m, v, d := lanes(mailbox.Limits{Count: 10, Bytes: 10})
	m.PostUserMessage(plain(1))
	m.PostUserMessage(plain(2))
	m.PostUserMessage("control 1")
	m.PostUserMessage("control 2")
	m.PostSystemMessage("system")
	d.run()
	want := []any{"system", "control 1", "control 2", plain(1), plain(2)}
	if !slices.Equal(v.got, want) {
		t.Errorf("got %v, want %v", v.got, want)
	}
}

func TestLanesHoldKeepsDataBackOnly(t *testing.T) {
	m, v, d := lanes(mailbox.Limits{Count: 10, Bytes: 10})
	m.Hold()
	m.PostUserMessage(plain(1))
	m.PostUserMessage("control")
	d.run()
	if !slices.Equal(v.got, []any{"control"}) {
		t.Errorf("while held got %v", v.got)
	}
	m.Release()
	d.run()
	if !slices.Equal(v.got, []any{"control", plain(1)}) {
		t.Errorf("after release got %v", v.got)
	}
}

func TestLanesLimits(t *testing.T) {
	f := func(l mailbox.Limits, sizes, wantRefused []int) {
		t.Helper()
		var refused []int
		l.Refused = func(msg any) { refused = append(refused, msg.(data).n) }
		m, v, d := lanes(l)
		for i, size := range sizes {
			m.PostUserMessage(data{n: i, size: size, slot: -1})
		}
		if !slices.Equal(refused, wantRefused) {
			t.Errorf("refused %v, want %v", refused, wantRefused)
		}
		if s := m.Stats(); s.Refused != uint64(len(wantRefused)) || s.Count != len(sizes)-len(wantRefused) {
			t.Errorf("stats = %+v", s)
		}
		d.run()
		if len(v.got) != len(sizes)-len(wantRefused) {
			t.Errorf("delivered %d", len(v.got))
		}
		if s := m.Stats(); s.Count != 0 || s.Bytes != 0 {
			t.Errorf("emptied mailbox has stats %+v", s)
		}
	}
	f(mailbox.Limits{Count: 2, Bytes: 100}, []int{1, 1}, nil)
	f(mailbox.Limits{Count: 2, Bytes: 100}, []int{1, 1, 1}, []int{2})
	f(mailbox.Limits{Count: 9, Bytes: 10}, []int{5, 5}, nil)
	f(mailbox.Limits{Count: 9, Bytes: 10}, []int{5, 6, 5}, []int{1})
	f(mailbox.Limits{Count: 9, Bytes: 10}, []int{11, 1}, []int{1}) // an empty lane takes anything
}

func TestLanesNewestWins(t *testing.T) {
	m, v, d := lanes(mailbox.Limits{Count: 3, Bytes: 100})
	m.PostUserMessage(data{n: 1, size: 10, slot: 7})
	m.PostUserMessage(plain(2))
	m.PostUserMessage(data{n: 3, size: 20, slot: 7})
	m.PostUserMessage(data{n: 4, size: 30, slot: 8})
	m.PostUserMessage(data{n: 5, size: 5, slot: 7}) // replaces although the lane is full
	if s := m.Stats(); s.Conflated != 2 || s.Count != 3 || s.Bytes != 36 || s.Refused != 0 {
		t.Errorf("stats = %+v", s)
	}
	d.run()
	want := []any{data{n: 5, size: 5, slot: 7}, plain(2), data{n: 4, size: 30, slot: 8}}
	if !slices.Equal(v.got, want) {
		t.Errorf("got %v, want %v", v.got, want)
	}
}

func TestLanesPanic(t *testing.T) {
	m, v, d := lanes(mailbox.Limits{Count: 9, Bytes: 9})
	v.on = func(msg any) {
		if msg == "bad" {
			m.PostSystemMessage(&actor.SuspendMailbox{}) // what EscalateFailure does
			panic("boom")
		}
	}
	m.PostUserMessage("bad")
	m.PostUserMessage("next")
	d.run()
	if !slices.Equal(v.got, []any{"bad"}) || !slices.Equal(v.fail, []any{"bad"}) {
		t.Fatalf("got %v, escalated %v", v.got, v.fail)
	}
	m.PostSystemMessage(&actor.ResumeMailbox{})
	d.run()
	if !slices.Equal(v.got, []any{"bad", "next"}) {
		t.Errorf("after resume got %v", v.got)
	}
}

// TestLanesConcurrent has many senders; everything arrives once, each sender's
// messages in order within a lane.
func TestLanesConcurrent(t *testing.T) {
	const senders, each = 8, 500
	v := &invoker{}
	m := mailbox.NewLanes(newGuard(), mailbox.Limits{Count: senders * each, Bytes: senders * each})
	m.RegisterHandlers(v, actor.NewDefaultDispatcher(300))
	all := make(chan struct{})
	n := 0 // touched by the mailbox's goroutine only
	v.on = func(any) {
		if n++; n == senders*each {
			close(all)
		}
	}
	for s := range senders {
		go func() {
			r := rand.New(rand.NewPCG(1, uint64(s)))
			for i := range each {
				switch r.IntN(4) {
				case 0:
					m.PostUserMessage(fmt.Sprint(s, " ", i))
				case 1:
					m.Hold()
					m.PostUserMessage(data{n: s*each + i, size: 1, slot: -1})
					m.Release()
				default:
					m.PostUserMessage(data{n: s*each + i, size: 1, slot: -1})
				}
			}
		}()
	}
	<-all
	last := map[int]int{}
	for _, msg := range v.got {
		if d, ok := msg.(data); ok {
			if s := d.n / each; d.n <= last[s]-1 {
				t.Fatalf("sender %d: %d after %d", s, d.n, last[s]-1)
			} else {
				last[s] = d.n + 1
			}
		}
	}
}

func inline(v *invoker) *mailbox.Inline {
	m := mailbox.NewInline(newGuard())().(*mailbox.Inline)
	m.RegisterHandlers(v, nil)
	return m
}

func TestInlineHandlesBeforeReturning(t *testing.T) {
	v := &invoker{}
	m := inline(v)
	m.PostUserMessage(1)
	if !slices.Equal(v.got, []any{1}) {
		t.Errorf("got %v", v.got)
	}
	m.PostSystemMessage(2)
	if !slices.Equal(v.got, []any{1, 2}) {
		t.Errorf("got %v", v.got)
	}
}

func TestInlineWhileBusy(t *testing.T) {
	v := &invoker{}
	m := inline(v)
	v.on = func(msg any) {
		if msg == "first" {
			m.PostUserMessage("refused")
			m.PostSystemMessage("waits")
			if len(v.got) != 1 {
				t.Errorf("handled inside another message: %v", v.got)
			}
		}
	}
	m.PostUserMessage("first")
	if !slices.Equal(v.got, []any{"first", "waits"}) {
		t.Errorf("got %v", v.got)
	}
}

func TestInlinePanic(t *testing.T) {
	v := &invoker{}
	m := inline(v)
	v.on = func(msg any) {
		if msg == "bad" {
			m.PostSystemMessage(&actor.SuspendMailbox{})
			panic("boom")
		}
	}
	m.PostUserMessage("bad")
	m.PostUserMessage("refused")
	m.PostSystemMessage("system")
	m.PostSystemMessage(&actor.ResumeMailbox{})
	m.PostUserMessage("next")
	if !slices.Equal(v.got, []any{"bad", "system", "next"}) || !slices.Equal(v.fail, []any{"bad"}) {
		t.Errorf("got %v, escalated %v", v.got, v.fail)
	}
}

// TestInlineConcurrent posts system messages from everywhere: none is lost and
// no two are handled at the same time.
func TestInlineConcurrent(t *testing.T) {
	const senders, each = 8, 1000
	v := &invoker{}
	m := inline(v)
	var inside, clashes int
	v.on = func(any) {
		inside++
		if inside != 1 {
			clashes++
		}
		inside--
	}
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				if s == 0 {
					m.PostUserMessage("user")
				} else {
					m.PostSystemMessage(s*each + i)
				}
			}
		})
	}
	wg.Wait()
	system := 0
	for _, msg := range v.got {
		if msg != "user" {
			system++
		}
	}
	if clashes != 0 || system != (senders-1)*each {
		t.Errorf("%d clashes, %d system messages handled of %d", clashes, system, (senders-1)*each)
	}
}
