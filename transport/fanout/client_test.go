package fanout

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

// lines frames messages with their kind and length.
type lines struct{}

func (lines) Append(dst []byte, m *Message) []byte {
	kind := byte(0)
	if m.Binary {
		kind = 1
	}
	return append(binary.BigEndian.AppendUint32(append(dst, kind), uint32(len(m.Body))), m.Body...)
}

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
	boards  map[uint64]*market.Board // nil: checksums are not compared
	sums    int
	// checkedAt is the replica's message count when it was last compared.
	checkedAt int
}

// sub is a subscription as the test knows it.
type sub struct {
	no       uint64
	all      bool
	ids      map[market.ID]bool
	format   wire.Format
	deadband int
	top      wire.Top
	options  string
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
		for line, binary := range messagesOf(f) {
			apply := c.replica.Apply
			if binary {
				apply = c.replica.ApplyBinary
			}
			m, err := apply(line)
			if err != nil {
				for _, m := range c.s.members {
					c.t.Logf("ch %d key %+v", m.ch.no, m.ch.key)
				}
				c.t.Fatalf("%v\n%.300s", err, line)
			}
			if m.Type == "checksums" && c.boards != nil {
				c.checkSums(m)
			}
			if m.Type != "snapshot" && m.Type != "checksums" && m.Type != "stale" && m.Type != "effective" && m.Type != "delta" && m.Type != "heartbeat" {
				c.answers = append(c.answers, m)
			}
		}
	}
}

// checkSums compares checksums with those of the rows that the client holds,
// where these are the market's.
func (c *client) checkSums(m *wiretest.Message) {
	c.t.Helper()
	ch := c.replica.Channels[m.Ch]
	if m.Seq != ch.Pos {
		c.t.Fatalf("checksums of %d at %d", m.Seq, ch.Pos)
	}
	for _, s := range c.subs {
		if c.replica.Of(s.no) == ch && s.deadband > 0 {
			return
		}
	}
	sums, err := m.Sums()
	if err != nil {
		c.t.Fatal(err)
	}
	for id, sum := range sums {
		snap := c.boards[m.Seq].Token(id)
		if want := wire.Checksum(snap, &ch.Format); sum != want || ch.Rows[id] == nil {
			c.t.Fatalf("checksum of token %d is %08x, not %08x", id, sum, want)
		}
		c.sums++
	}
}

// messagesOf yields the messages of whole frames, and whether they are binary.
func messagesOf(p []byte) iter.Seq2[[]byte, bool] {
	return func(yield func([]byte, bool) bool) {
		for len(p) > 0 {
			n := 5 + int(binary.BigEndian.Uint32(p[1:]))
			if !yield(p[5:n], p[0] == 1) {
				return
			}
			p = p[n:]
		}
	}
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
	return connectAs(t, h, wire.EncodingJSON)
}

func connectAs(t *testing.T, h *Hub, e wire.Encoding) *client {
	t.Helper()
	lease, err := h.Admit(visitor)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, replica: wiretest.NewReplica(), subs: make(map[uint64]*sub)}
	c.s = h.Attach(c, Peer{Framing: lines{}, Encoding: e, Lease: lease})
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
		ch := c.replica.Of(sub.no)
		if ch == nil || !ch.Exact {
			continue
		}
		b := boards[ch.Pos]
		if b == nil {
			c.t.Fatalf("subscription %d at seq %d, which never was", sub.no, ch.Pos)
		}
		if err := sub.diff(b, ch); err != nil {
			c.t.Fatalf("subscription %d%s at %d: %v", sub.no, sub.options, ch.Pos, err)
		}
		n++
	}
	return n
}

// diff compares what a client holds with the board of its position.
func (s *sub) diff(b *market.Board, ch *wiretest.Channel) error {
	has := func(id market.ID) bool { return s.all || s.ids[id] }
	if s.top.N > 0 {
		best := rankedBy(b, s.top)
		has = func(id market.ID) bool { return slices.Contains(best, id) }
	}
	if s.deadband > 0 {
		return wiretest.Within(b, has, &ch.Format, ch.Rows, s.deadband)
	}
	return wiretest.Diff(b, has, &ch.Format, ch.Rows)
}

// rankedBy returns the ids of the first tokens, found by counting those before
// each.
func rankedBy(b *market.Board, top wire.Top) (ids []market.ID) {
	before := func(x, y *market.Snapshot) bool {
		c := x.Value(top.By).Cmp(y.Value(top.By))
		if top.By != market.FieldRank {
			c = -c
		}
		return c < 0 || c == 0 && x.ID < y.ID
	}
	counts := func(s *market.Snapshot) bool { return !s.Value(top.By).IsNull() && !s.Flags().Excluded() }
	for s := range b.All {
		n := 0
		for other := range b.All {
			if counts(other) && before(other, s) {
				n++
			}
		}
		if counts(s) && n < top.N {
			ids = append(ids, s.ID)
		}
	}
	return ids
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
	cfg.Lanes, cfg.Handshakes = max(cfg.Lanes, 1), 1e9
	return &rig{Hub: New(cfg, board{m}), m: m, now: time.Now()}
}

// tick publishes n ticks that the hub sees as one round.
func (r *rig) tick(n int) {
	for range n {
		r.Publish(r.m.Tick())
	}
	r.step(r.now)
}
