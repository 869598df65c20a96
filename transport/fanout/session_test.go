package fanout

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

func TestHello(t *testing.T) {
	r := newRig(Config{}, wiretest.NewMarket(1, 3))
	c := connect(t, r.Hub)
	defer c.s.Detach()
	m := c.answers[0]
	if m.Type != "hello" || m.Protocol != 1 || m.Epoch != "k3test" || m.Seq != 1 || m.HeartMS != 15000 || !m.Simulated ||
		m.Limits["tokens"] != 50_000 || m.Limits["subscriptions"] != 256 || m.Limits["messages_per_second"] != 20 || m.Limits["message_bytes"] != 65536 ||
		m.SchemaURL != "/api/v1/schema" {
		t.Fatalf("got %+v", m)
	}
}

func TestAnswers(t *testing.T) {
	r := newRig(Config{ErrorsPerMinute: 1e9}, wiretest.NewMarket(1, 3))
	c := connect(t, r.Hub)
	defer c.s.Detach()
	f := func(message, want string) {
		t.Helper()
		m := c.ask("%s", message)
		got := m.Type
		if m.Type == "error" {
			got = m.Code
			if m.Text == "" {
				t.Fatalf("%s: no text", message)
			}
		}
		if m.ID != nil {
			got += " " + *m.ID
		}
		if got != want {
			t.Fatalf("%s: got %q (%s), not %q", message, got, m.Text, want)
		}
	}
	f(`{"op":"ping","id":"é"}`, "pong é")
	f(`{"op":"ping"}`, "pong")
	f(`{"op":"list","id":""}`, "subscriptions ")
	f(`{"op":"subscribe","tokens":[1,2,2,1],"id":"1"}`, "subscribed 1")
	f(`{"op":"subscribe","tokens":[77],"id":"1"}`, "unknown_token 1")
	f(`{"op":"subscribe","symbols":["nope"]}`, "unknown_token")
	f(`{"op":"unsubscribe","sub":1,"id":"u"}`, "unsubscribed u")
	f(`{"op":"unsubscribe","sub":1,"id":"u"}`, "unknown_subscription u")
	f(`{"op":"update","sub":1,"id":"u"}`, "bad_value u")
	f(`{"op":"update","sub":1,"rate":1,"id":"u"}`, "unknown_subscription u")
	f(`{"op":"verify","sub":1,"tokens":[1]}`, "unknown_subscription")
	f(`{"op":"auth","key":"k","id":"a"}`, "not_supported a")
	f(`{"op":"fly","id":"u"}`, "unknown_op u")
	f(`{"op":"ping","idd":"u"}`, "unknown_member")
	f(`{"op":"ping"} x`, "bad_message")
}

func TestSubscribeAnswer(t *testing.T) {
	m := wiretest.NewMarket(1, 60)
	r := newRig(Config{}, m)
	c := connect(t, r.Hub)
	defer c.s.Detach()
	a := c.ask(`{"op":"subscribe","tokens":[3,1,99,2,98],"since":{"epoch":"other","seq":1}}`)
	if a.Tokens != 3 || fmt.Sprintf("%s", a.Unknown) != "[98 99]" || *a.Recovered || string(a.Effective["view"]) != `"quote"` ||
		string(a.Effective["mode"]) != `"latest"` || string(a.Effective["rate"]) != `"tick"` || string(a.Effective["digits"]) != `"full"` {
		t.Fatalf("got %+v", a)
	}
	var many string
	bySymbol := map[string][]*market.Snapshot{}
	for s := range m.Board().All {
		sym := s.Info.Symbol
		if bySymbol[sym] = append(bySymbol[sym], s); len(bySymbol[sym]) > 1 {
			many = sym
		}
	}
	a = c.ask(`{"op":"subscribe","symbols":[%q,"nope",%q]}`, strings.ToLower(many), strings.ToLower(many))
	if a.Tokens != 1 || fmt.Sprintf("%s", a.Unknown) != `["nope"]` || len(a.Ambiguous) != 1 || a.Ambiguous[0].Symbol != strings.ToLower(many) {
		t.Fatalf("got %+v", a)
	}
	taken := m.Board().Token(a.Ambiguous[0].Taken)
	for _, s := range bySymbol[many] {
		if s != taken && (rank(s) < rank(taken) || !slices.Contains(a.Ambiguous[0].Others, s.ID)) {
			t.Fatalf("token %d of rank %d taken before %d of rank %d", taken.ID, rank(taken), s.ID, rank(s))
		}
	}
	if a = c.ask(`{"op":"list"}`); len(a.Items) != 2 || !strings.HasPrefix(string(a.Items[0]), `{"sub":1,"ch":1,"tokens":3,"effective":{`) {
		t.Fatalf("got %s", a.Items)
	}
}

// TestSharedBytes checks that the members of a shared channel are sent the very
// same bytes, encoded once.
func TestSharedBytes(t *testing.T) {
	r := newRig(Config{}, wiretest.NewMarket(1, 50))
	a, b := connect(t, r.Hub), connect(t, r.Hub)
	defer a.s.Detach()
	defer b.s.Detach()
	ca, cb := a.ask(`{"op":"subscribe","all":true}`).Ch, b.ask(`{"op":"subscribe","all":true}`).Ch
	if ca != cb {
		t.Fatalf("channels %d and %d", ca, cb)
	}
	a.slow, b.slow = true, true
	r.m.Moving = 1
	for a.held == nil {
		r.tick(1)
	}
	if len(a.held) == 0 || &a.held[0][0] != &b.held[0][0] {
		t.Fatal("not the same bytes")
	}
	if again := a.s.members[0].ch; a.ask2(`{"op":"subscribe","all":true}`).Ch != again.no || len(a.s.members) != 1 {
		t.Fatal("a second subscription made another channel")
	}
}

// ask2 asks a slow client.
func (c *client) ask2(message string) *wiretest.Message {
	n := len(c.answers)
	c.s.Receive([]byte(message))
	for len(c.answers) == n {
		c.read()
	}
	return c.answers[n]
}

func TestChannelLimit(t *testing.T) {
	r := newRig(Config{Channels: 2}, wiretest.NewMarket(1, 10))
	c, d := connect(t, r.Hub), connect(t, r.Hub)
	defer c.s.Detach()
	defer d.s.Detach()
	f := func(message string, shared int) {
		t.Helper()
		for _, who := range []*client{c, d} {
			if m := who.ask("%s", message); m.Type != "subscribed" {
				t.Fatalf("got %+v", m)
			}
		}
		if got := r.Stats().SharedChannels; got != shared {
			t.Fatalf("%d shared channels, not %d", got, shared)
		}
	}
	f(`{"op":"subscribe","tokens":[1,2]}`, 1) // shared from the second member on
	f(`{"op":"subscribe","all":true}`, 2)
	f(`{"op":"subscribe","all":true,"view":"full"}`, 2)
	f(`{"op":"subscribe","tokens":[1,2]}`, 2)
}

func TestLimits(t *testing.T) {
	f := func(cfg Config, messages, answers int, last string, code wire.CloseCode, message string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) { // no time passes
			r := newRig(cfg, wiretest.NewMarket(1, 10))
			c := connect(t, r.Hub)
			defer c.s.Detach()
			for range messages {
				c.s.Receive([]byte(message))
			}
			a := c.answers[len(c.answers)-1]
			if len(c.answers)-1 != answers || a.Type+a.Code != last || c.code != code {
				t.Fatalf("%d answers, last %s, close %d", len(c.answers)-1, a.Type+a.Code, c.code)
			}
		})
	}
	f(Config{}, 4, 4, "errorunknown_op", 0, `{"op":"x"}`)
	f(Config{}, 9, 5, "errorunknown_op", wire.CloseErrors, `{"op":"x"}`)
	f(Config{Subscriptions: 2}, 4, 4, "errorlimit", 0, `{"op":"subscribe","all":true}`)
	f(Config{Subscriptions: 2}, 9, 5, "errorlimit", wire.CloseSubAbuse, `{"op":"subscribe","all":true}`)
	f(Config{Tokens: 5}, 3, 3, "errorlimit", 0, `{"op":"subscribe","tokens":[1,2]}`)
	f(Config{}, 100, 100, "pong", 0, `{"op":"ping"}`)
	f(Config{}, 101, 101, "errorrate", 0, `{"op":"ping"}`)
	f(Config{}, 500, 120, "errorrate", wire.CloseRate, `{"op":"ping"}`)
}

func TestAnswersPileUp(t *testing.T) {
	r := newRig(Config{Control: 1 << 10}, wiretest.NewMarket(1, 10))
	c := connect(t, r.Hub)
	defer c.s.Detach()
	c.slow = true
	for range 90 {
		c.s.Receive([]byte(`{"op":"ping"}`))
	}
	if c.code != wire.CloseSlow {
		t.Fatalf("closed %d", c.code)
	}
}

func TestAdmit(t *testing.T) {
	r := newRig(Config{Connections: 4, PerAddress: 2}, wiretest.NewMarket(1, 1))
	f := func(addr string, want error) *Lease {
		t.Helper()
		l, err := r.Admit(Visitor{Addr: netip.MustParseAddr(addr)})
		if err != want {
			t.Fatalf("%s: %v", addr, err)
		}
		return l
	}
	a := f("10.0.0.1", nil)
	f("::ffff:10.0.0.1", nil)
	f("10.0.0.1", ErrAddress)
	b := f("2001:db8::1", nil)
	f("2001:db8::2:1", nil)
	f("127.0.0.1", ErrFull)
	b.Release()
	b.Release()
	f("2001:db8:0:0:9::", nil)
	a.Release()
	f("2001:db8::7", ErrAddress)
	f("::1", nil)
	late := new(restored)
	h := New(Config{}, late)
	if _, err := h.Admit(visitor); err != ErrNotReady {
		t.Fatal(err)
	}
	late.board = r.m.Board() // the market of before a restart
	if _, err := h.Admit(visitor); err != nil {
		t.Fatal(err)
	}
}

type restored struct{ board *market.Board }

func (r *restored) Board() *market.Board { return r.board }

// TestHeartbeats runs a hub under virtual time without ticks, then with ticks
// that do not touch the channel.
func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := wiretest.NewMarket(3, 4)
		r := newRig(Config{}, m)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.Run(ctx); close(done) }()
		c := connect(t, r.Hub)
		c.ask(`{"op":"subscribe","tokens":[1]}`)
		d := connect(t, r.Hub)
		ch := d.ask(`{"op":"subscribe","all":true,"fields":["vwap_1h"]}`).Ch
		n := c.replica.Messages
		after := func(d time.Duration) {
			<-time.After(d)
			synctest.Wait()
		}
		look := func(who *client) (int, wiretest.Message) {
			who.s.mu.Lock() // the hub's goroutine applies messages with it held
			defer who.s.mu.Unlock()
			return who.replica.Messages, who.replica.Last
		}
		after(14 * time.Second)
		if now, _ := look(c); now != n {
			t.Fatal("a heartbeat too early")
		}
		after(3 * time.Second)
		if now, last := look(c); now != n+1 || last.Type != "heartbeat" || last.Ch != 0 || last.ServerTime == 0 {
			t.Fatalf("got %+v", last)
		}
		m.Moving, m.Churn = 0, 0
		for range 17 {
			r.Publish(m.Tick())
			after(time.Second)
		}
		for _, who := range []*client{c, d} {
			if _, last := look(who); last.Type != "heartbeat" || last.Ch == 0 || last.Seq < m.Board().Seq-8 {
				t.Fatalf("got %+v at %d", last, m.Board().Seq)
			}
		}
		c.s.Detach()
		d.s.Detach()
		cancel()
		<-done
		if pos := d.replica.Channels[ch].Pos; pos != d.replica.Last.Seq {
			t.Fatalf("position %d", pos)
		}
	})
}

func TestStallCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(Config{}, wiretest.NewMarket(3, 4))
		c := connect(t, r.Hub)
		defer c.s.Detach()
		c.slow = true
		c.s.Receive([]byte(`{"op":"ping"}`))
		for i := range 30 {
			if c.code != 0 {
				t.Fatalf("closed %d after %d s", c.code, i)
			}
			<-time.After(time.Second)
			r.sweep(time.Now())
		}
		if c.code != wire.CloseSlow || r.Stats().ClosedBy[wire.CloseSlow] != 1 {
			t.Fatalf("closed %d", c.code)
		}
	})
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(Config{}, wiretest.NewMarket(3, 4))
		quick, stuck := connect(t, r.Hub), connect(t, r.Hub)
		stuck.slow = true
		stuck.s.Receive([]byte(`{"op":"ping"}`))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		err := make(chan error)
		go func() { err <- r.Shutdown(ctx, wire.CloseRestart) }()
		synctest.Wait()
		last := quick.answers[len(quick.answers)-1]
		if last.Type != "drain" || last.DeadlineMS != 3000 || last.RetryMS < 500 || quick.code != wire.CloseRestart {
			t.Fatalf("got %+v, close %d", last, quick.code)
		}
		quick.s.Detach()
		if _, e := r.Admit(visitor); e != ErrDraining {
			t.Fatal(e)
		}
		if e := <-err; e == nil || !stuck.aborted {
			t.Fatalf("got %v", e)
		}
		stuck.s.Detach()
		if e := r.Shutdown(ctx, wire.CloseRestart); e != nil {
			t.Fatal(e)
		}
	})
}

// TestPanicEndsOneSession poisons one session and looks at the other.
func TestPanicEndsOneSession(t *testing.T) {
	r := newRig(Config{}, wiretest.NewMarket(3, 40))
	bad, good := connect(t, r.Hub), connect(t, r.Hub)
	good.ask(`{"op":"subscribe","all":true}`)
	bad.s.members = append(bad.s.members, &member{})
	n := good.replica.Messages
	for range 5 {
		r.tick(1)
	}
	if bad.code != wire.CloseInternal || good.code != 0 || good.replica.Messages == n || r.Stats().Panics == 0 {
		t.Fatalf("bad %d good %d", bad.code, good.code)
	}
	good.s.Detach()
}

// broken is a link that panics when it is first written to.
type broken struct{ rec }

func (*broken) TryWrite([]Chunk) bool { panic("boom") }

// TestAttachPanics wants no session to stay, and leaves the lease to whoever has
// the connection.
func TestAttachPanics(t *testing.T) {
	f := func(peer Peer) {
		t.Helper()
		r := newHRig(3, Config{})
		lease, err := r.Admit(Visitor{})
		if err != nil {
			t.Fatal(err)
		}
		peer.Framing, peer.Lease = lines{}, lease
		func() {
			defer func() {
				if recover() != "boom" {
					t.Error("Attach did not panic")
				}
			}()
			r.Attach(&broken{}, peer)
		}()
		for i := range 3 {
			r.set(1, market.FieldPrice, int64(i+2))
		}
		if n, s := len(r.sessions()), r.Stats(); n != 0 || s.Panics != 0 || s.Subscriptions != 0 || s.Connections != 1 {
			t.Errorf("%d sessions, %+v", n, s)
		}
		lease.Release()
		if n := r.Stats().Connections; n != 0 {
			t.Errorf("%d connections", n)
		}
	}
	f(Peer{})
	f(Peer{Request: &wire.Request{Op: wire.OpSubscribe, All: true, Format: wire.ViewFormat(market.ViewQuote)}})
}

func TestRegister(t *testing.T) {
	r, reg := newRig(Config{}, wiretest.NewMarket(3, 1)), prometheus.NewPedanticRegistry()
	if err := r.Register(reg); err != nil {
		t.Fatal(err)
	}
	if err := r.Register(reg); err == nil {
		t.Fatal("registered twice")
	}
	all, err := reg.Gather()
	if err != nil || len(all) < 15 {
		t.Fatalf("%d families, %v", len(all), err)
	}
}

func TestManyRemovedIsASnapshot(t *testing.T) {
	m := wiretest.NewMarket(5, 1200)
	r := newRig(Config{Channels: 1}, m) // the second is private
	c := connect(t, r.Hub)
	defer c.s.Detach()
	m.Churn, m.Moving = 1, 0
	all := c.ask(`{"op":"subscribe","all":true}`).Ch
	part := c.ask(`{"op":"subscribe","all":true,"view":"full"}`).Ch
	m.Keep = true
	for range 1100 {
		r.Publish(m.Tick())
	}
	r.step(time.Now())
	for _, ch := range []uint64{all, part} {
		if got := c.replica.Channels[ch]; got.Exact || !got.Whole || got.Pos != m.Board().Seq {
			t.Fatalf("channel %d: exact %v at %d", ch, got.Exact, got.Pos)
		}
	}
	r.tick(1)
	c.subs[1] = &sub{no: 1, all: true, format: wire.ViewFormat(market.ViewQuote)}
	if c.check(m.Boards) == 0 {
		t.Fatal("nothing was compared")
	}
}

// TestTurns wants a small channel served while a long snapshot is under way.
func TestTurns(t *testing.T) {
	r := newRig(Config{Batch: 4 << 10}, wiretest.NewMarket(5, 400))
	c := connect(t, r.Hub)
	defer c.s.Detach()
	c.slow = true
	long, small := c.ask2(`{"op":"subscribe","all":true,"view":"full"}`).Ch, c.ask2(`{"op":"subscribe","tokens":[1]}`).Ch
	for range 5 {
		c.read()
	}
	if c.replica.Channels[long].Whole || !c.replica.Channels[small].Whole {
		t.Fatal("the small channel waited")
	}
	c.drain()
	if !c.replica.Channels[long].Whole {
		t.Fatal("the snapshot was not finished")
	}
}

// TestDeltaKeepsItsRound reads a delta of many parts while the market moves on:
// its rows must still be those of its seq.
func TestDeltaKeepsItsRound(t *testing.T) {
	m := wiretest.NewMarket(5, 400)
	r := newRig(Config{Batch: 2 << 10, Channels: 1}, m)
	c := connect(t, r.Hub)
	defer c.s.Detach()
	c.ask(`{"op":"subscribe","all":true}`) // takes the only shared channel
	a := c.ask(`{"op":"subscribe","all":true,"view":"full"}`)
	c.subs = map[uint64]*sub{a.Sub: {no: a.Sub, all: true, format: wire.ViewFormat(market.ViewFull)}}
	m.Moving = 1
	r.tick(30)
	c.slow = true
	checked := 0
	for range 60 {
		r.tick(1 + checked%3)
		c.read()
		checked += c.check(m.Boards)
	}
	if checked < 5 {
		t.Fatalf("compared %d times", checked)
	}
	if s := r.Stats(); s.Skipped == 0 {
		t.Fatalf("got %+v", s)
	}
}

// TestAllIsNotCounted lets a client with a small token limit have the whole market.
func TestAllIsNotCounted(t *testing.T) {
	r := newRig(Config{Tokens: 5}, wiretest.NewMarket(1, 10))
	c := connect(t, r.Hub)
	defer c.s.Detach()
	f := func(message, want string) {
		t.Helper()
		if m := c.ask("%s", message); m.Type+m.Code != want {
			t.Fatalf("%s: got %s", message, m.Type+m.Code)
		}
	}
	f(`{"op":"subscribe","all":true}`, "subscribed")
	f(`{"op":"subscribe","tokens":[1,2,3]}`, "subscribed")
	f(`{"op":"subscribe","all":true,"view":"full"}`, "subscribed")
	f(`{"op":"subscribe","tokens":[4,5,6]}`, "errorlimit")
	f(`{"op":"subscribe","tokens":[4,5]}`, "subscribed")
}

// TestShutdownOfASlowReader wants the code without the announcement once half of
// the time is over, and no cut where the connection then ends.
func TestShutdownOfASlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(Config{}, wiretest.NewMarket(3, 4))
		c := connect(t, r.Hub)
		c.slow = true
		c.s.Receive([]byte(`{"op":"ping"}`))
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		err := make(chan error)
		go func() { err <- r.Shutdown(ctx, wire.CloseRestart) }()
		code := func() wire.CloseCode {
			c.s.mu.Lock()
			defer c.s.mu.Unlock()
			return c.code
		}
		<-time.After(time.Second)
		if got := code(); got != 0 {
			t.Fatalf("closed %d too early", got)
		}
		<-time.After(1500 * time.Millisecond)
		if got := code(); got != wire.CloseRestart {
			t.Fatalf("closed %d", got)
		}
		c.s.Detach()
		if e := <-err; e != nil || c.aborted || r.Stats().ClosedBy[wire.CloseRestart] != 1 {
			t.Fatalf("%v, aborted %v, %v", e, c.aborted, r.Stats().ClosedBy)
		}
	})
}
