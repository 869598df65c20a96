package sse

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/fanout/loop"
	"github.com/velocimeter/velocimeter/transport/gate"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

type boards struct{ m *wiretest.Market }

func (b boards) Board() *market.Board { return b.m.Board() }

// options are what tests change about a rig.
type options struct {
	sse    Config
	hub    fanout.Config
	loops  loop.Config
	market *wiretest.Market // 50 tokens
	empty  bool             // there is no market yet
}

// rig is a whole server on loopback.
type rig struct {
	m    *wiretest.Market
	hub  *fanout.Hub
	addr string
	past sync.Map // board by seq
	stop func(wire.CloseCode)
}

// gathering gives the rigs rings of io_uring: those of a backend, or all of them
// where VELOCIMETER_TEST_IO_URING is set.
var gathering bool

func outbox() fanout.Outbox {
	if !gathering && os.Getenv("VELOCIMETER_TEST_IO_URING") == "" {
		return nil
	}
	r, err := loop.NewRing(func(error) {})
	if err != nil {
		return nil
	}
	return r
}

func newRig(t *testing.T, o options) *rig {
	t.Helper()
	if o.market == nil {
		o.market = wiretest.NewMarket(1, 50)
	}
	r := &rig{m: o.market}
	for seq, b := range r.m.Boards {
		r.past.Store(seq, b)
	}
	first := r.m.Board()
	o.hub.Outbox = outbox
	if o.empty {
		r.hub = fanout.New(o.hub, nobody{})
	} else {
		r.hub = fanout.New(o.hub, boards{r.m})
	}
	if o.sse.Find == nil {
		o.sse.Find = func(text string) *market.Snapshot { return find(first, text) }
	}
	g, err := gate.New(gate.Config{}, New(o.sse, r.hub, loop.NewGroup(o.loops)).Routes()...)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := gate.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- g.Serve(ln) }()
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() { r.hub.Run(ctx); close(ran) }()
	var once sync.Once
	r.stop = func(code wire.CloseCode) {
		once.Do(func() {
			short, done := context.WithTimeout(context.Background(), 10*time.Second)
			defer done()
			if err := r.hub.Shutdown(short, code); err != nil {
				t.Error(err)
			}
			cancel()
			<-ran
			_ = g.Shutdown(context.Background())
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() { r.stop(wire.CloseGoingAway) })
	return r
}

type nobody struct{}

func (nobody) Board() *market.Board { return nil }

func find(b *market.Board, text string) *market.Snapshot {
	for s := range b.All {
		if text == strconv.FormatUint(uint64(s.ID), 10) || text == s.Info.Slug {
			return s
		}
	}
	return nil
}

// tick publishes the next tick.
func (r *rig) tick() *market.Tick {
	t := advance(r.m)
	r.past.Store(t.Env.Seq, t.Board)
	r.hub.Publish(t)
	return t
}

// advance makes a tick whose retired tokens are remembered.
func advance(m *wiretest.Market) *market.Tick {
	t := m.Tick()
	for i := range t.Board.Tombstones {
		t.Board.Tombstones[i].Time = t.Board.Time
	}
	return t
}

func (r *rig) board(seq uint64) *market.Board {
	b, _ := r.past.Load(seq)
	board, _ := b.(*market.Board)
	return board
}

// eachBackend runs a test with event loops, where there are any, and with goroutines.
func eachBackend(t *testing.T, test func(*testing.T, loop.Config)) {
	t.Helper()
	t.Run("loops", func(t *testing.T) { test(t, loop.Config{}) })
	t.Run("io_uring", func(t *testing.T) {
		defer func(was bool) { gathering = was }(gathering)
		gathering = true
		test(t, loop.Config{})
	})
	t.Run("goroutines", func(t *testing.T) { test(t, loop.Config{Goroutines: true}) })
}

// event is one block of a stream.
type event struct {
	name, id, data string
	retry          int
	comments       int
	hasID          bool
}

// stream is a client that reads strictly: what this server never writes is an error.
type stream struct {
	t  *testing.T
	nc net.Conn
	br *bufio.Reader
}

// dial sends a request and returns the answer.
func (r *rig) dial(t *testing.T, raw string) (*stream, *http.Response) {
	t.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(nc, raw); err != nil {
		t.Fatal(err)
	}
	s := &stream{t: t, nc: nc, br: bufio.NewReader(nc)}
	return s, s.answer(raw)
}

func (s *stream) answer(raw string) *http.Response {
	s.t.Helper()
	method, _, _ := strings.Cut(raw, " ")
	res, err := http.ReadResponse(s.br, &http.Request{Method: method})
	if err != nil {
		s.t.Fatalf("%.80q: %v", raw, err)
	}
	if res.StatusCode == http.StatusOK && method == http.MethodGet {
		s.br = bufio.NewReader(res.Body)
	}
	return res
}

func get(path string, headers ...string) string {
	lines := append([]string{"GET /api/v1/tokens/" + path + " HTTP/1.1", "Host: x.test"}, headers...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// open begins a stream and takes what stands before the first message.
func (r *rig) open(t *testing.T, path string, headers ...string) *stream {
	t.Helper()
	s, res := r.dial(t, get(path, headers...))
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("status %d %v", res.StatusCode, res.Header)
	}
	if e := s.next(); e.retry < 3000 || e.retry > 4500 || e.data != "" {
		t.Fatalf("got %+v", e)
	}
	return s
}

// read returns the next block.
func (s *stream) read() (e event, err error) {
	for {
		line, err := s.br.ReadString('\n')
		if err != nil {
			return e, err
		}
		if line = line[:len(line)-1]; line == "" {
			return e, nil
		}
		field, value, ok := strings.Cut(line, ": ")
		switch {
		case !ok || strings.ContainsRune(line, '\r'):
			return e, fmt.Errorf("line %.80q", line)
		case field == "":
			e.comments++
		case field == "event" && e.name == "":
			e.name = value
		case field == "id" && !e.hasID:
			e.id, e.hasID = value, true
		case field == "data" && e.data == "":
			e.data = value
		case field == "retry":
			if e.retry, err = strconv.Atoi(value); err != nil {
				return e, err
			}
		default:
			return e, fmt.Errorf("line %.80q", line)
		}
	}
}

func (s *stream) next() event {
	s.t.Helper()
	e, err := s.read()
	if err != nil {
		s.t.Fatal(err)
	}
	return e
}

// follow applies events to a replica until stop says so, and holds every id
// against the board of that seq.
func (s *stream) follow(rep *wiretest.Replica, check func(rep *wiretest.Replica, pos uint64) error, stop func(m *wiretest.Message, pos uint64) bool) error {
	pos := uint64(0)
	for {
		e, err := s.read()
		if err != nil {
			return err
		}
		if e.data == "" {
			continue
		}
		m, err := rep.Apply([]byte(e.data))
		if err != nil {
			return err
		}
		if want := e.name; m.Type != want && want != "answer" {
			return fmt.Errorf("event %q is a %q", e.name, m.Type)
		}
		if e.hasID {
			p, ok := position(e.id)
			if !ok || p.Seq < pos || p.Seq != rep.Channels[m.Ch].Pos || m.More {
				return fmt.Errorf("id %q after %d of %.80s", e.id, pos, e.data)
			}
			pos = p.Seq
			if err := check(rep, pos); err != nil {
				return fmt.Errorf("at %d: %w", pos, err)
			}
		} else if moves := m.Type == "delta" || m.Type == "snapshot"; moves && !m.More {
			return fmt.Errorf("no id on the last part %.80s", e.data)
		}
		if stop(m, pos) {
			return nil
		}
	}
}

// pipe starts a stream on one end of a pipe, for tests in virtual time, and
// leaves the head unread.
func pipe(t *testing.T, s *Server, query string) (*stream, <-chan struct{}) {
	t.Helper()
	lease, err := s.hub.Admit(fanout.Visitor{Addr: netip.Addr{}})
	if err != nil {
		t.Fatal(err)
	}
	r, bad := decode(map[string]string{"view": query}, 0)
	if bad != nil {
		t.Fatal(bad)
	}
	mine, theirs := net.Pipe()
	started := make(chan struct{})
	go func() { s.start(theirs, lease, r, s.head("test")); close(started) }()
	return &stream{t: t, nc: mine, br: bufio.NewReader(mine)}, started
}

// skipHead reads up to the first event.
func (s *stream) skipHead() {
	s.t.Helper()
	for {
		line, err := s.br.ReadString('\n')
		if err != nil {
			s.t.Fatal(err)
		}
		if strings.HasPrefix(line, "retry: ") {
			_, _ = s.br.ReadString('\n')
			return
		}
	}
}
