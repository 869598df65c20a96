package engineio

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

type boards struct{ atomic.Pointer[market.Board] }

func (b *boards) Board() *market.Board { return b.Load() }

// messages is the framing of a session that speaks the native stream in messages.
type messages struct{}

func (messages) Append(dst []byte, m *fanout.Message) []byte {
	return append(AppendHead(dst, len(m.Body)), m.Body...)
}
func (messages) Compresses() bool { return false }

// streamer is a handler that has a session of the fan-out.
type streamer struct {
	session *Session
	stream  *fanout.Session
}

func (s *streamer) Text(p []byte) {
	if string(p) == "panic" {
		panic("as told")
	}
	s.stream.Receive(p)
}
func (s *streamer) Binary([]byte) { s.session.Close(wire.CloseWrongType, "") }
func (s *streamer) Written()      { s.stream.Written() }
func (s *streamer) Gone(code wire.CloseCode) {
	s.stream.Closing(code)
	s.stream.Detach()
}

var (
	_ fanout.Framing = messages{}
	_ Admission      = (*fanout.Lease)(nil)
)

// chained checks that no data message of one channel is missing.
type chained struct {
	t    *testing.T
	last map[uint64]uint64
	data int
}

func (c *chained) take(text string) {
	var m struct {
		Type      string
		Ch        uint64
		Seq, Prev uint64
		More      bool
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		c.t.Errorf("%.80s: %v", text, err)
	}
	switch m.Type {
	case "delta":
		if m.Prev > c.last[m.Ch] {
			c.t.Errorf("delta %d after %d, and not after %d", m.Seq, m.Prev, c.last[m.Ch])
		}
	case "snapshot":
	default:
		return
	}
	if c.data++; !m.More {
		c.last[m.Ch] = max(c.last[m.Ch], m.Seq)
	}
}

// The fan-out writes to clients that poll, that have a websocket, and that go from
// one to the other; some leave in between, and some deserve it.
func TestFanOut(t *testing.T) {
	m, b := wiretest.NewMarket(1, 40), new(boards)
	b.Store(m.Board())
	hub := fanout.New(fanout.Config{}, b)
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() { hub.Run(ctx); close(ran) }()
	r := newRig(t, Config{Admit: func(addr netip.Addr) (Admission, error) {
		return hub.Admit(fanout.Visitor{Addr: addr, Over: "socketio"})
	}})
	r.server.open = func(s *Session, o Opening) Handler {
		lease, _ := o.Admission.(*fanout.Lease)
		h := &streamer{session: s}
		h.stream = hub.Attach(s, fanout.Peer{Framing: messages{}, Lease: lease})
		return h
	}
	ticked := make(chan struct{})
	go func() {
		defer close(ticked)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			next := m.Tick()
			b.Store(m.Board())
			hub.Publish(next)
		}
	}()
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() { r.pollAWhile(i) })
		clients.Go(func() { r.listenAWhile() })
	}
	clients.Wait()
	short, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = hub.Shutdown(short, wire.CloseRestart)
	stop()
	<-ticked
	<-ran
}

const subscribe = `4{"op":"subscribe","id":"1","all":true,"view":"quote"}`

// awhile is how many data messages a client takes.
const awhile = 10

// pollAWhile polls, and goes on by websocket or ends in one of three ways.
func (r *rig) pollAWhile(no int) {
	status, body, _ := r.do("GET", poll, "")
	if status != 200 {
		r.t.Errorf("got %d %s", status, body)
		return
	}
	var open struct{ SID string }
	_ = json.Unmarshal([]byte(body[1:]), &open)
	sid := open.SID
	r.post(sid, subscribe, 200, "ok")
	c := &chained{t: r.t, last: make(map[uint64]uint64)}
	for c.data < awhile {
		status, body, _ := r.do("GET", poll+"&sid="+sid, "")
		if status != 200 {
			r.t.Errorf("got %d %s", status, body)
			return
		}
		for text := range strings.SplitSeq(body, "\x1e") {
			if text[0] == '4' {
				c.take(text[1:])
			}
		}
	}
	switch no % 4 {
	case 0:
		r.post(sid, "4panic", 400, isBad)
	case 1:
		r.post(sid, "1", 200, "ok")
	case 2: // it just leaves
	default:
		s, _ := r.dial(socketQuery+"&sid="+sid, "")
		s.say("2probe")
		s.hear("3probe")
		s.say("5")
		s.drainInto(c, 2*awhile)
	}
}

// listenAWhile has a websocket for a while.
func (r *rig) listenAWhile() {
	s, res := r.dial(socketQuery, "")
	if s == nil {
		r.t.Errorf("got %d", res.StatusCode)
		return
	}
	s.say(subscribe)
	s.drainInto(&chained{t: r.t, last: make(map[uint64]uint64)}, awhile)
}

// drainInto reads until so many data messages came.
func (c *socketClient) drainInto(to *chained, data int) {
	for to.data < data {
		_, p, err := c.ws.ReadMessage()
		if err != nil {
			c.t.Error(err)
			return
		}
		if p[0] == '4' {
			to.take(string(p[1:]))
		}
	}
	_ = c.ws.Close()
}
