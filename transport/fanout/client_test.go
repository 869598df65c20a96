package fanout

import (
	"bytes"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

// lines frames messages as lines.
type lines struct{}

func (lines) Append(dst []byte, m *Message) []byte { return append(append(dst, m.Body...), '\n') }

func (lines) Compresses() bool { return false }

// client is a connection in memory: link and replica in one.
type client struct {
	t       *testing.T
	s       *Session
	replica *wiretest.Replica
	slow    bool // takes a batch and lets it wait for read
	held    [][]byte
	holds   chan struct{} // told when a batch is held, where somebody listens
	batches int
	biggest int
	code    wire.CloseCode
	aborted bool
	subs    map[uint64]*sub
	answers []*wiretest.Message
	// checkedAt is the replica's message count when it was last compared.
	checkedAt int
}

// sub is a subscription as the test knows it.
type sub struct {
	no, ch uint64
	all    bool
	ids    map[market.ID]bool
	format wire.Format
}

func (c *client) TryWrite(batch []Chunk) bool {
	c.batches++
	size := 0
	frames := make([][]byte, len(batch))
	for i, f := range batch {
		if frames[i] = f.Bytes; !f.Shared {
			frames[i] = bytes.Clone(f.Bytes)
		}
		size += len(f.Bytes)
	}
	c.biggest = max(c.biggest, size)
	if c.held != nil {
		c.t.Fatal("BUG: a batch while the one before is unfinished")
	}
	if c.slow {
		c.held = frames
		select {
		case c.holds <- struct{}{}:
		default:
		}
		return true
	}
	c.take(frames)
	return false
}

// take applies whole frames.
func (c *client) take(frames [][]byte) {
	c.t.Helper()
	for _, f := range frames {
		for line := range splitLines(f) {
			m, err := c.replica.Apply(line)
			if err != nil {
				c.t.Fatalf("%v\n%.300s", err, line)
			}
			if m.Type != "snapshot" && m.Type != "delta" && m.Type != "heartbeat" {
				c.answers = append(c.answers, m)
			}
		}
	}
}

func splitLines(frame []byte) iter.Seq[[]byte] {
	return bytes.SplitSeq(bytes.TrimSuffix(frame, []byte("\n")), []byte("\n"))
}

// read finishes what a slow client holds.
func (c *client) read() {
	if frames := c.held; frames != nil {
		c.held = nil
		c.take(frames)
		c.s.Written()
	}
}

// drain reads until nothing is due.
func (c *client) drain() {
	for c.held != nil {
		c.read()
	}
}

func (c *client) Close(code wire.CloseCode, _ string) { c.code = code }
func (c *client) Abort()                              { c.aborted = true }

func connect(t *testing.T, h *Hub) *client {
	t.Helper()
	lease, err := h.Admit(loopback)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, replica: wiretest.NewReplica(), subs: make(map[uint64]*sub)}
	c.s = h.Attach(c, Peer{Framing: lines{}, Lease: lease})
	return c
}

// ask sends a message and returns the last answer; the client must not be slow.
func (c *client) ask(format string, args ...any) *wiretest.Message {
	c.t.Helper()
	n := len(c.answers)
	c.s.Receive(fmt.Appendf(nil, format, args...))
	if len(c.answers) == n {
		c.t.Fatalf("no answer to "+format, args...)
	}
	return c.answers[len(c.answers)-1]
}

// check compares every channel whose position was reached exactly.
func (c *client) check(boards map[uint64]*market.Board) int {
	c.t.Helper()
	n := 0
	for _, sub := range c.subs {
		ch := c.replica.Channels[sub.ch]
		if ch == nil || !ch.Exact {
			continue
		}
		var has func(market.ID) bool
		if !sub.all {
			has = func(id market.ID) bool { return sub.ids[id] }
		}
		b := boards[ch.Pos]
		if b == nil {
			c.t.Fatalf("channel %d at seq %d, which never was", sub.ch, ch.Pos)
		}
		if err := wiretest.Diff(b, has, &sub.format, ch.Rows); err != nil {
			c.t.Fatalf("channel %d at %d: %v", sub.ch, ch.Pos, err)
		}
		n++
	}
	return n
}

// rig is a hub over a random market, stepped by hand.
type rig struct {
	*Hub
	m   *wiretest.Market
	now time.Time
}

type board struct{ m *wiretest.Market }

func (b board) Board() *market.Board { return b.m.Board() }

func newRig(cfg Config, m *wiretest.Market) *rig {
	return &rig{Hub: New(cfg, board{m}), m: m, now: time.Now()}
}

// tick publishes n ticks that the hub sees as one round.
func (r *rig) tick(n int) {
	for range n {
		r.Publish(r.m.Tick())
	}
	r.step(r.now)
}
