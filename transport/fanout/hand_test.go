package fanout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// hand is a market whose every change is made by hand: token n begins with n in
// all its decimals.
type hand struct{ b *market.Board }

func (h *hand) Board() *market.Board { return h.b }

func newHand(n int) *hand {
	b := &market.Board{}
	b.Epoch, b.Seq = "k3", 1
	b.Shards, b.Index = make([][]*market.Snapshot, 1), []map[market.ID]int32{{}}
	for id := 1; id <= n; id++ {
		s := &market.Snapshot{ID: market.ID(id), Seq: 1, Info: &market.Info{Symbol: fmt.Sprint("T", id), Name: "n", Slug: fmt.Sprint("t", id)}}
		for f := range market.NumericFields.Fields() {
			s.Put(f, market.Decimal{Mant: int64(id), Exp: 0})
		}
		for _, f := range []market.Field{market.FieldFreshness, market.FieldFlags, market.FieldSource} {
			s.Put(f, market.Decimal{})
		}
		s.Stamp(market.AllFields)
		b.Index[0][s.ID] = int32(id - 1)
		b.Shards[0] = append(b.Shards[0], s)
	}
	return &hand{b}
}

// set changes one field of one token at the next seq.
func (h *hand) set(id int, f market.Field, v int64) *market.Tick {
	b := *h.b
	b.Seq++
	b.Shards = [][]*market.Snapshot{append([]*market.Snapshot(nil), h.b.Shards[0]...)}
	var parts []market.Change
	if id > 0 {
		s := *b.Shards[0][id-1]
		s.Seq = b.Seq
		s.Mant[f-1] = v
		s.Stamp(f.Bit())
		b.Shards[0][id-1] = &s
		parts = append(parts, market.Change{Snap: &s, Mask: f.Bit()})
	}
	h.b = &b
	return &market.Tick{Env: market.Env{Seq: b.Seq}, Parts: [][]market.Change{parts}, Board: &b}
}

// hrig is a hub over it, stepped by hand.
type hrig struct {
	*Hub
	h   *hand
	now time.Time
}

func newHRig(n int, cfg Config) *hrig {
	cfg.Lanes = 1
	h := newHand(n)
	return &hrig{New(cfg, h), h, time.Now()}
}

func (r *hrig) set(id int, f market.Field, v int64) {
	r.Publish(r.h.set(id, f, v))
	r.step(r.now)
}

// rec is a connection that records text messages.
type rec struct {
	msgs    []string
	pending bool
	sizes   []int
	s       *Session
	code    wire.CloseCode
}

func (c *rec) TryWrite(batch []Chunk) bool {
	n := 0
	for _, ch := range batch {
		n += len(ch.Bytes)
		for m, bin := range messagesOf(ch.Bytes) {
			if len(m) < 2000 && !bin {
				c.msgs = append(c.msgs, string(m))
			}
		}
	}
	c.sizes = append(c.sizes, n)
	return c.pending
}
func (c *rec) Close(code wire.CloseCode, _ string) { c.code = code }
func (c *rec) Abort()                              {}

func (r *hrig) rec(t testing.TB, e wire.Encoding) *rec {
	l, err := r.Admit(visitor)
	if err != nil {
		t.Fatal(err)
	}
	c := &rec{}
	c.s = r.Attach(c, Peer{Framing: lines{}, Encoding: e, Lease: l})
	return c
}
func (c *rec) ask(f string, a ...any) { c.s.Receive(fmt.Appendf(nil, f, a...)) }
func (c *rec) has(s string) int {
	n := 0
	for _, m := range c.msgs {
		if strings.Contains(m, s) {
			n++
		}
	}
	return n
}
