package fanout

import (
	"slices"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// box is an outbox that takes three writes.
type box struct {
	t       *testing.T
	waiting int
	commits []int
}

func (o *box) Full() bool { return o.waiting >= 3 }

func (o *box) Commit() { o.commits, o.waiting = append(o.commits, o.waiting), 0 }

// stager is a link that stages everything.
type stager struct {
	*rec
	staged int
	panics bool
}

func (s *stager) Stage(out Outbox, batch []Chunk) (pending bool) {
	if s.panics {
		panic("stage")
	}
	b, _ := out.(*box)
	if b.waiting++; b.waiting > 3 {
		b.t.Error("a full outbox is asked")
	}
	s.staged++
	return s.TryWrite(batch)
}

// boxed attaches n stagers that want everything, and wants nothing staged yet.
func boxed(t *testing.T, n int, out Outbox) (r *hrig, all []*stager) {
	t.Helper()
	r = newHRig(5, Config{Outbox: func() Outbox { return out }})
	for range n {
		l, err := r.Admit(visitor)
		if err != nil {
			t.Fatal(err)
		}
		s := &stager{rec: new(rec)}
		s.s = r.Attach(s, Peer{Framing: lines{}, Encoding: wire.EncodingJSON, Lease: l})
		t.Cleanup(s.s.Detach)
		s.ask(`{"op":"subscribe","all":true}`)
		if s.staged > 0 || s.has("snapshot") != 1 {
			t.Fatalf("%d staged outside of a round, got %q", s.staged, s.msgs)
		}
		all = append(all, s)
	}
	return r, all
}

// TestOutbox wants the writes of a round committed whenever they are enough, and
// all of them before it ends.
func TestOutbox(t *testing.T) {
	out := &box{t: t}
	r, all := boxed(t, 7, out)
	for round := range 3 {
		out.commits = nil
		r.set(1, market.FieldPrice, int64(50+round))
		if !slices.Equal(out.commits, []int{3, 3, 1}) {
			t.Fatal(out.commits)
		}
		for _, s := range all {
			if s.staged != round+1 || s.has(`"delta"`) != round+1 {
				t.Fatalf("%d staged, got %q", s.staged, s.msgs)
			}
		}
	}
}

// TestOutboxPanic wants what others have staged committed nevertheless.
func TestOutboxPanic(t *testing.T) {
	out := &box{t: t}
	r, all := boxed(t, 3, out)
	all[2].panics = true
	r.set(1, market.FieldPrice, 50)
	if !slices.Equal(out.commits, []int{2}) || all[2].code != wire.CloseInternal {
		t.Fatal(out.commits, all[2].code)
	}
}

// TestOutboxEnd wants what an end waits for written at once.
func TestOutboxEnd(t *testing.T) {
	out := &box{t: t}
	r, all := boxed(t, 1, out)
	s := all[0].s
	s.mu.Lock()
	s.end(wire.CloseRestart)
	s.answer(wire.KindAnswer, func(dst []byte) []byte { return append(dst, "last"...) })
	s.mu.Unlock()
	r.set(1, market.FieldPrice, 50)
	if all[0].staged != 0 || all[0].has("last") != 1 || all[0].code != wire.CloseRestart {
		t.Fatal(all[0].staged, all[0].code)
	}
}

// TestOutboxOfPlainLinks gives a lane an outbox that its links do not know.
func TestOutboxOfPlainLinks(t *testing.T) {
	out := &box{t: t}
	r := newHRig(5, Config{Outbox: func() Outbox { return out }})
	c := r.rec(t, wire.EncodingJSON)
	t.Cleanup(c.s.Detach)
	c.ask(`{"op":"subscribe","all":true}`)
	r.set(1, market.FieldPrice, 50)
	if out.waiting != 0 || c.has(`"delta"`) != 1 {
		t.Fatal(c.msgs)
	}
}
