package socketio

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
	"github.com/velocimeter/velocimeter/transport/ws"
)

type boards struct{ m *wiretest.Market }

func (b boards) Board() *market.Board { return b.m.Board() }

// rig is a server with its hub; links stand where Engine.IO would.
type rig struct {
	t   *testing.T
	m   *wiretest.Market
	hub *fanout.Hub
	s   *Server
}

// virtually runs a test in virtual time with a market of twenty tokens that does
// not move by itself.
func virtually(t *testing.T, cfg Config, hub fanout.Config, test func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, m: wiretest.NewMarket(1, 20)}
		r.m.Churn = 0
		for token := range r.m.Board().All {
			info := *token.Info
			info.Symbol = "S" + strconv.FormatUint(uint64(token.ID), 10)
			token.Info = &info
		}
		r.hub = fanout.New(hub, boards{r.m})
		cfg.Find = r.find
		r.s = New(cfg, r.hub, ws.NewLoops(ws.Config{}))
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan struct{})
		go func() { r.hub.Run(ctx); close(ran) }()
		test(r)
		r.s.Close()
		if err := r.hub.Shutdown(ctx, wire.CloseGoingAway); err != nil {
			t.Error(err)
		}
		cancel()
		<-ran
		if n := r.s.clients.Load(); n != 0 {
			t.Errorf("%d clients are left", n)
		}
	})
}

func (r *rig) find(text string) *market.Snapshot {
	b := r.m.Board()
	if n, err := strconv.ParseUint(text, 10, 32); err == nil {
		return b.Token(market.ID(n))
	}
	for s := range b.All {
		if s.Info.Slug == text {
			return s
		}
	}
	return nil
}

// tick moves the market until a token of it has changed, and waits for the streams.
func (r *rig) tick() *market.Tick {
	t := r.m.Tick()
	r.hub.Publish(t)
	synctest.Wait()
	return t
}

// peer is a client's end, and Engine.IO in between.
type peer struct {
	rig    *rig
	client *client
	lease  *fanout.Lease

	calls sync.Mutex
	mu    sync.Mutex
	got   []string // packets of Socket.IO
	slow  bool     // what is written pends until written is called
	sick  bool     // every write panics
	owed  bool
	code  wire.CloseCode // it was closed with; 0 while it is open
	why   string
	gone  bool
	timer *time.Timer
}

var _ link = (*peer)(nil)

// dial begins a connection.
func (r *rig) dial() *peer {
	r.t.Helper()
	lease, err := r.hub.Admit(fanout.Visitor{})
	if err != nil {
		r.t.Fatal(err)
	}
	p := &peer{rig: r, lease: lease}
	p.do(func() { p.client = r.s.open(p, lease) })
	return p
}

func (p *peer) do(fn func()) {
	p.calls.Lock()
	defer p.calls.Unlock()
	if !p.gone {
		fn()
	}
}

// say sends packets, and returns what comes.
func (p *peer) say(packets ...string) []string {
	for _, text := range packets {
		if !p.closed() {
			p.do(func() { p.client.Text([]byte(text)) })
		}
	}
	return p.take()
}

// take returns what came.
func (p *peer) take() []string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.got
	p.got = nil
	return got
}

// drop loses the connection.
func (p *peer) drop() { p.end(0, "") }

func (p *peer) TryWrite(batch []fanout.Chunk) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sick {
		panic("sick link")
	}
	if p.owed {
		p.rig.t.Error("a batch while the one before is unfinished")
	}
	for _, chunk := range batch {
		for frames := chunk.Bytes; len(frames) > 0; {
			payload, binary, rest := ws.CutFrame(frames)
			if binary || payload[0] != '4' {
				p.rig.t.Errorf("not a message: %q", payload)
			}
			p.got = append(p.got, string(payload[1:]))
			frames = rest
		}
	}
	p.owed = p.slow
	return p.slow
}

func (p *peer) Stage(_ fanout.Outbox, batch []fanout.Chunk) bool { return p.TryWrite(batch) }

// written lets a slow link have taken what was written.
func (p *peer) written() {
	p.mu.Lock()
	owed := p.owed
	p.owed = false
	p.mu.Unlock()
	if owed {
		p.do(p.client.Written)
	}
}

func (p *peer) Send(text []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = append(p.got, string(text))
}

func (p *peer) SetTimer(d time.Duration, fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
	}
	if d > 0 {
		p.timer = time.AfterFunc(d, func() { p.do(fn) })
	}
}

func (p *peer) Close(code wire.CloseCode, reason string) { p.end(code, reason) }
func (p *peer) Abort()                                   { p.end(wire.CloseInternal, "aborted") }

func (p *peer) end(code wire.CloseCode, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.why != "" {
		return
	}
	p.code, p.why = code, "closed: "+reason
	if p.timer != nil {
		p.timer.Stop()
	}
	go p.do(func() {
		p.gone = true
		p.client.Gone(code)
		p.lease.Release()
	})
}

func (p *peer) closed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.why != ""
}

// connect dials and enters; auth may be empty.
func (r *rig) connect(auth string) (*peer, hello) {
	r.t.Helper()
	p := r.dial()
	got := p.say("0" + auth)
	if len(got) == 0 || !strings.HasPrefix(got[0], "0{") {
		r.t.Fatalf("connect %s: %q", auth, got)
	}
	var h hello
	if err := json.Unmarshal([]byte(got[0][1:]), &h); err != nil {
		r.t.Fatal(err)
	}
	p.mu.Lock()
	p.got = append(got[1:], p.got...)
	p.mu.Unlock()
	return p, h
}

type hello struct{ SID, PID string }

// data is a token_update or a bulk_update.
type data struct {
	Name    string
	Offset  string
	Seq     uint64
	Time    int64
	Source  json.RawMessage
	Type    string
	More    bool
	Token   map[string]json.RawMessage
	Rows    []map[string]json.RawMessage
	Removed []market.ID
}

// parse reads an event of the server.
func parse(t *testing.T, text string) (d data) {
	t.Helper()
	var parts []json.RawMessage
	if text[0] != '2' {
		t.Fatalf("not an event: %s", text)
	}
	if err := json.Unmarshal([]byte(text[1:]), &parts); err != nil || len(parts) < 2 {
		t.Fatalf("%v: %s", err, text)
	}
	_ = json.Unmarshal(parts[0], &d.Name)
	if err := json.Unmarshal(parts[1], &d); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if len(parts) > 2 {
		_ = json.Unmarshal(parts[2], &d.Offset)
	}
	return d
}

// brief describes events: name, type, ids.
func brief(t *testing.T, texts []string) string {
	t.Helper()
	var out []string
	for _, text := range texts {
		if text[0] != '2' {
			out = append(out, text)
			continue
		}
		d := parse(t, text)
		line := d.Name
		if d.Type != "" {
			line += " " + d.Type
		}
		for _, row := range append(d.Rows, d.Token) {
			if row != nil {
				line += " " + string(row["id"])
			}
		}
		out = append(out, line)
	}
	return strings.Join(out, "; ")
}

// pause lets virtual time go by.
func pause(d time.Duration) { <-time.After(d) }
