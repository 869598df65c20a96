package fanout

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

// stress is a client of TestStress.
type stress struct {
	t       *testing.T
	s       *Session
	replica *wiretest.Replica
	mu      sync.Mutex
	held    [][]byte
	slow    bool
	bad     atomic.Int32
	sums    atomic.Int32
	code    wire.CloseCode
	log     []string
}

func (c *stress) TryWrite(batch []Chunk) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	var frames [][]byte
	for _, f := range batch {
		frames = append(frames, bytes.Clone(f.Bytes))
	}
	if c.slow {
		c.held = frames
		return true
	}
	c.take(frames)
	return false
}

func (c *stress) take(frames [][]byte) {
	for _, f := range frames {
		for line, bin := range messagesOf(f) {
			apply := c.replica.Apply
			if bin {
				apply = c.replica.ApplyBinary
			}
			m, err := apply(line)
			if !bin {
				c.log = append(c.log, fmt.Sprintf("%.6000s", line))
			} else {
				c.log = append(c.log, fmt.Sprintf("bin kind %d flags %d rows %d ch %d seq %d back %d len %d", line[0], line[1], line[2], int(line[4])|int(line[5])<<8, int(line[8])|int(line[9])<<8, line[min(16, len(line)-1)], len(line)))
			}
			if len(c.log) > 400 {
				c.log = c.log[1:]
			}
			if err != nil {
				if c.bad.Add(1) < 2 {
					c.t.Errorf("%v", err)
					if bin {
						m = &wiretest.Message{Ch: uint64(line[4]) | uint64(line[5])<<8, Seq: uint64(line[8]) | uint64(line[9])<<8}
					}
					c.dump(m, 0, 0, 0)
				}
				return
			}
			if m.Type == "checksums" {
				ch := c.replica.Channels[m.Ch]
				sums, err := m.Sums()
				if err != nil || ch == nil {
					c.t.Errorf("sums %v", err)
					return
				}
				if m.Seq != ch.Pos {
					c.t.Errorf("sums at %d, position %d", m.Seq, ch.Pos)
				}
				for id, sum := range sums {
					own, err := ch.Checksum(id)
					c.sums.Add(1)
					if (err != nil || own != sum) && c.bad.Add(1) < 2 {
						c.dump(m, id, sum, own)
					}
				}
			}
		}
	}
}

func (c *stress) dump(m *wiretest.Message, id market.ID, sum, own uint32) {
	c.t.Errorf("ch %d seq %d token %d: sum %08x, own %08x", m.Ch, m.Seq, id, sum, own)
	for _, x := range c.s.members {
		if x.ch.no == m.Ch {
			c.t.Logf("every %v top %v key %+v chained %v born %d chseq %d through %d member pos %d through %d leaf %d from %d pace %d", x.ch.key.every, x.ch.key.top, x.ch.key.form, x.ch.chained, x.ch.born, x.ch.seq, x.ch.through, x.pos, x.through, x.page.leaf.Load().seq(), x.page.leaf.Load().from, x.page.pace.cur.Load().seq())
		}
	}
	c.t.Log(strings.Join(c.log[max(0, len(c.log)-40):], "\n"))
}

func (c *stress) Close(code wire.CloseCode, _ string) { c.code = code }
func (c *stress) Abort()                              {}

func (c *stress) read() {
	c.mu.Lock()
	f := c.held
	c.held = nil
	if f != nil {
		c.take(f)
	}
	c.mu.Unlock()
	if f != nil {
		c.s.Written()
	}
}

// TestStress lets clients ask at random in goroutines of their own while four
// lanes serve them, and holds each to the checksums and in the end to the board.
func TestStress(t *testing.T) {
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	m := wiretest.NewMarket(5, 40)
	m.Keep = true
	h := New(Config{Lanes: 4, Stall: 1 << 60, Control: 1 << 30, MessagesPerSecond: 1e9, MessageBurst: 1e9, ErrorsPerMinute: 1e9, Batch: 2 << 10, Formats: 8, Channels: 200, Heartbeat: 100 * time.Millisecond}, board{m})
	h.Ready()
	var over atomic.Bool
	var wg sync.WaitGroup
	var clients []*stress
	for i := range 10 {
		enc := wire.EncodingJSON
		if i%2 == 1 {
			enc = wire.EncodingBinary
		}
		l, err := h.Admit(visitor)
		if err != nil {
			t.Fatal(err)
		}
		c := &stress{t: t, replica: wiretest.NewReplica(), slow: i%3 == 0}
		c.s = h.Attach(c, Peer{Framing: lines{}, Encoding: enc, Lease: l})
		c.s.gate.limits = -1 << 40
		clients = append(clients, c)
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 7))
			for !over.Load() {
				c.s.mu.Lock()
				n := len(c.s.subs)
				no := uint64(0)
				if n > 0 {
					no = c.s.subs[rng.IntN(n)].no
				}
				c.s.mu.Unlock()
				what := []string{`"all":true`, `"tokens":[1,2,3]`, `"tokens":[5]`, `"tokens":[4,5,6,7,8,9,10,11,12]`, `"top":{"by":"price","n":5}`}[rng.IntN(5)]
				opts := []string{``, `,"digits":"compact"`, `,"rate":20`, `,"rate":20,"digits":"compact"`, `,"mode":"every"`, `,"deadband_bps":10`, `,"fields":["price","velocity"]`}[rng.IntN(7)]
				if what[1] == 't' && what[2] == 'o' && what[3] == 'p' {
					opts = ""
				}
				switch r := rng.IntN(10); {
				case n < 3 || r == 0 && n < 6:
					c.s.Receive([]byte(`{"op":"subscribe",` + what + opts + `}`))
				case r == 1:
					c.s.Receive(fmt.Appendf(nil, `{"op":"unsubscribe","sub":%d}`, no))
				case r < 4:
					c.s.Receive(fmt.Appendf(nil, `{"op":"update","sub":%d,"rate":%s}`, no, []string{`"tick"`, `20`, `10`}[rng.IntN(3)]))
				default:
					c.s.Receive(fmt.Appendf(nil, `{"op":"verify","sub":%d,"tokens":[1,2,3,4,5,6,7,8]}`, no))
				}
				runtime.Gosched()
				if rng.IntN(2) == 0 {
					c.read()
				}
			}
		})
	}
	ticks, now := 0, time.Now()
	for range rounds {
		if t.Failed() {
			break
		}
		now = now.Add(10 * time.Millisecond)
		for range 1 + ticks%3 {
			h.Publish(m.Tick())
		}
		h.step(now)
		if ticks%20 == 0 {
			h.sweep(now)
		}
		ticks++
	}
	over.Store(true)
	wg.Wait()
	if t.Failed() {
		return
	}
	for range 3 {
		for _, c := range clients {
			for range 100 {
				c.read()
			}
			c.slow = false
		}
		h.Publish(m.Tick())
		now = now.Add(time.Hour)
		h.step(now)
		h.sweep(now)
	}
	n, checked := int32(0), 0
	for i, c := range clients {
		n += c.sums.Load()
		if c.code != 0 {
			t.Logf("client %d closed %d", i, c.code)
			continue
		}
		for _, sb := range c.s.subs {
			k := sb.member.ch.key
			ch := c.replica.Of(sb.no)
			if ch == nil || !ch.Exact || k.deadband > 0 {
				continue
			}
			b := m.Boards[ch.Pos]
			has := func(id market.ID) bool { return sb.member.ch.sel.has(id) }
			if k.top.N > 0 {
				best := rankedBy(b, k.top)
				has = func(id market.ID) bool { _, ok := index(best, id); return ok }
			}
			if err := wiretest.Diff(b, has, &ch.Format, ch.Rows); err != nil {
				t.Errorf("client %d sub %d key %+v pos %d: %v", i, sb.no, k.form, ch.Pos, err)
			}
			checked++
		}
		c.s.Detach()
	}
	t.Logf("%d ticks, %d sums, %d compared, %+v", ticks, n, checked, h.Stats())
}

func index(ids []market.ID, id market.ID) (int, bool) {
	for i, x := range ids {
		if x == id {
			return i, true
		}
	}
	return 0, false
}
