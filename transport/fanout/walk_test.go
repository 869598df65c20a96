package fanout

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// TestReplicaEqualsBoard walks at random through ticks, merges, joins, leaves,
// slow and fast readers, and compares every replica with the board of its seq.
func TestReplicaEqualsBoard(t *testing.T) {
	var total Stats
	f := func(seed uint64, tokens, steps int, cfg Config) {
		t.Helper()
		w := newWalk(t, seed, tokens, cfg)
		for range steps {
			w.step()
		}
		w.finish()
		s := w.Stats()
		total.Conflated += s.Conflated
		total.Skipped += s.Skipped
		total.MergedTicks += s.MergedTicks
	}
	small := Config{Stall: 1 << 60, Control: 1 << 30, Batch: 2 << 10, MessagesPerSecond: 1e9, MessageBurst: 1e9, ErrorsPerMinute: 1e9, Channels: 3, Formats: 2, Cache: 4 << 10}
	wide := small
	wide.Channels, wide.Formats, wide.Batch, wide.Cache = 256, 64, 64<<10, 128<<20
	seeds, long := uint64(4), 120
	if testing.Short() {
		seeds, long = 1, 30
	}
	for seed := range seeds {
		f(seed, 1, 150, small)
		f(seed, 40, 150, small)
		f(seed, 40, 150, wide)
	}
	f(99, 400, long, small)
	f(99, 400, long, wide)
	if total.Conflated == 0 || total.Skipped == 0 || total.MergedTicks == 0 {
		t.Fatalf("the walks met no laggard: %+v", total)
	}
}

type walk struct {
	*rig
	t       *testing.T
	rng     *rand.Rand
	clients []*client
	checked int
}

func newWalk(t *testing.T, seed uint64, tokens int, cfg Config) *walk {
	t.Helper()
	return &walk{rig: newRig(cfg, wiretest.NewMarket(seed, tokens)), t: t, rng: rand.New(rand.NewPCG(seed, 7))}
}

func (w *walk) step() {
	w.t.Helper()
	switch n := w.rng.IntN(100); {
	case n < 30:
		w.tick(1)
	case n < 36:
		w.tick(1 + w.rng.IntN(4))
	case n < 42 && len(w.clients) < 12:
		w.clients = append(w.clients, connect(w.t, w.Hub))
	case n < 44:
		w.leave()
	case n < 50:
		w.now = w.now.Add(sweepEvery * 6)
		w.sweep(w.now)
	case len(w.clients) > 0:
		w.act(w.clients[w.rng.IntN(len(w.clients))])
	}
	if used := w.table.cache.used.Load(); used > int64(w.cfg.Cache) {
		w.t.Fatalf("%d bytes of rows are kept", used)
	}
	for _, c := range w.clients {
		if c.code != 0 || c.aborted {
			w.t.Fatalf("closed %d", c.code)
		}
		if c.replica.Messages != c.checkedAt {
			w.checked += c.check(w.m.Boards)
			c.checkedAt = c.replica.Messages
		}
	}
}

func (w *walk) leave() {
	if len(w.clients) == 0 {
		return
	}
	i := w.rng.IntN(len(w.clients))
	w.clients[i].s.Detach()
	w.clients[i].s.Detach() // twice is once
	w.clients = append(w.clients[:i], w.clients[i+1:]...)
}

func (w *walk) act(c *client) {
	switch n := w.rng.IntN(10); {
	case n < 3:
		c.read()
	case n < 4:
		c.slow = !c.slow
		c.drain()
	case n < 8:
		w.subscribe(c)
	default:
		w.unsubscribe(c)
	}
}

var formats = []struct {
	options string
	format  wire.Format
}{
	{``, wire.ViewFormat(market.ViewQuote)},
	{`,"view":"velocity","digits":"compact"`, compact(wire.ViewFormat(market.ViewVelocity))},
	{`,"view":"full"`, wire.ViewFormat(market.ViewFull)},
	{`,"fields":["price","vwap_7d"],"numbers":"string"`, text(wire.FieldsFormat(market.MaskOf(market.FieldPrice, market.FieldVWAP7d)))},
}

func compact(f wire.Format) wire.Format { f.Digits = wire.DigitsCompact; return f }
func text(f wire.Format) wire.Format    { f.Numbers = wire.NumbersString; return f }

// subscribe sends a random subscribe. Slow clients are read out first, so that
// the acknowledgement can be matched.
func (w *walk) subscribe(c *client) {
	slow := c.slow
	c.slow = false
	c.drain()
	c.slow = slow && w.rng.IntN(2) == 0
	f := formats[w.rng.IntN(len(formats))]
	s := &sub{format: f.format, ids: make(map[market.ID]bool)}
	what := `"all":true`
	if w.rng.IntN(3) > 0 {
		what = w.list(s)
	} else {
		s.all = true
	}
	n := len(c.answers)
	c.s.Receive(fmt.Appendf(nil, `{"op":"subscribe","id":"s",%s%s}`, what, f.options))
	for len(c.answers) == n {
		c.read()
	}
	m := c.answers[n]
	if len(s.ids) == 0 && !s.all {
		if m.Code != "unknown_token" {
			w.t.Fatalf("got %+v for no known token", m)
		}
		return
	}
	if m.Type != "subscribed" || *m.ID != "s" || *m.Recovered {
		w.t.Fatalf("got %+v", m)
	}
	s.no, s.ch = m.Sub, m.Ch
	c.subs[s.no] = s
}

// list picks tokens by id; some lists are the same ones again and again.
func (w *walk) list(s *sub) string {
	var ids []string
	from, n := 1+w.rng.IntN(3), 1+w.rng.IntN(3)*20
	for id := from; id < from+n; id++ {
		ids = append(ids, fmt.Sprint(id))
		if w.m.Board().Token(market.ID(id)) != nil {
			s.ids[market.ID(id)] = true
		}
	}
	return `"tokens":[` + strings.Join(ids, ",") + `]`
}

func (w *walk) unsubscribe(c *client) {
	for no := range c.subs {
		delete(c.subs, no)
		c.s.Receive(fmt.Appendf(nil, `{"op":"unsubscribe","sub":%d}`, no))
		return
	}
}

// finish lets everybody read and compares with the newest board.
func (w *walk) finish() {
	w.t.Helper()
	w.tick(1)
	for _, c := range w.clients {
		c.slow = false
		c.drain()
	}
	w.now = w.now.Add(w.cfg.Heartbeat * 2)
	w.tick(1)
	w.sweep(w.now)
	for _, c := range w.clients {
		for _, s := range c.subs {
			if ch := c.replica.Channels[s.ch]; ch.Pos != w.m.Board().Seq {
				w.t.Fatalf("channel %d rests at %d, market at %d", s.ch, ch.Pos, w.m.Board().Seq)
			}
		}
		w.checked += c.check(w.m.Boards)
		if c.biggest > w.cfg.Batch+2*wire.MaxPart && c.batches > 0 {
			w.t.Fatalf("a batch of %d bytes", c.biggest)
		}
		c.s.Detach()
	}
	if len(w.clients) > 0 && w.checked == 0 {
		w.t.Fatal("nothing was compared")
	}
	if w.table.cache.used.Load() != 0 {
		w.t.Fatalf("%d bytes of rows are kept for nobody", w.table.cache.used.Load())
	}
	if s := w.Stats(); s.Connections != 0 || s.Subscriptions != 0 || s.SharedChannels != 0 || len(w.table.entries) != 0 || len(w.table.formats) != 0 {
		w.t.Fatalf("left behind: %+v", s)
	}
}
