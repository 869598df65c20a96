package fanout

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

// TestRate counts the messages of a rate while a market ticks at another.
func TestRate(t *testing.T) {
	f := func(rate string, every time.Duration, ticks, want int) {
		t.Helper()
		m := wiretest.NewMarket(3, 20)
		m.Moving, m.Churn = 1, 0
		r := newRig(Config{}, m)
		c := connect(t, r.Hub)
		defer c.s.Detach()
		c.ask(`{"op":"subscribe","all":true,"rate":%s}`, rate)
		got, pos, end := 0, uint64(0), r.now.Add(time.Duration(ticks)*every)
		step := func(at time.Time) {
			if r.step(at); c.replica.Of(1).Pos != pos {
				got, pos = got+1, c.replica.Of(1).Pos
			}
		}
		for at := r.now; at.Before(end); at = at.Add(every) {
			r.Publish(r.m.Tick())
			step(at)
			if wait := r.deadline; !wait.IsZero() && wait.Before(at.Add(every)) {
				step(wait) // as the timer of Run would
			}
		}
		if got < want-want/20-1 || got > want+want/20+1 {
			t.Fatalf("rate %s at ticks of %s: %d messages in %d ticks, not %d", rate, every, got, ticks, want)
		}
	}
	f(`"tick"`, time.Second, 100, 88) // a tick in eight is without rows
	f(`1`, time.Second, 100, 88)
	f(`1`, 100*time.Millisecond, 1000, 100)
	f(`20`, 10*time.Millisecond, 1000, 190)
	f(`0.1`, time.Second, 1000, 100)
	f(`7`, 20*time.Millisecond, 1000, 100) // 5 a second
	f(`2`, 3*time.Second, 100, 88)
}

// TestJitter takes ticks that come a little early for their rate.
func TestJitter(t *testing.T) {
	m := wiretest.NewMarket(3, 20)
	m.Moving, m.Churn = 1, 0
	r := newRig(Config{}, m)
	c := connect(t, r.Hub)
	defer c.s.Detach()
	c.ask(`{"op":"subscribe","all":true,"rate":1}`)
	rounds := r.table.paces[wire.Rate1]
	for i := range 200 {
		last := rounds.cur.Load()
		r.Publish(r.m.Tick())
		r.step(r.now.Add(time.Duration(i)*time.Second + time.Duration(i%7)*4*time.Millisecond))
		if rounds.cur.Load() == last {
			t.Fatalf("tick %d waits", i)
		}
	}
}

// TestEvery wants a message for each tick, also of ticks that came together.
func TestEvery(t *testing.T) {
	m := wiretest.NewMarket(3, 20)
	m.Moving, m.Churn = 1, 0.5
	r := newRig(Config{}, m)
	c := connect(t, r.Hub)
	defer c.s.Detach()
	c.boards = m.Boards
	a := c.ask(`{"op":"subscribe","all":true,"mode":"every"}`)
	c.subs[a.Sub] = &sub{no: a.Sub, all: true}
	moved := 0
	for i := range 60 {
		seen := c.replica.Messages
		changes := 0
		for range 1 + i%5 {
			tick := m.Tick()
			if tick.Rows() > 0 || len(tick.Removed) > 0 {
				changes++
			}
			r.Publish(tick)
		}
		r.step(r.now)
		deltas := c.replica.Messages - seen
		if deltas < changes { // stale events come beside them
			t.Fatalf("%d messages for %d ticks", deltas, changes)
		}
		moved += c.check(m.Boards)
	}
	if moved == 0 {
		t.Fatal("nothing was compared")
	}
}

// TestEveryFallsOut closes a client that was too slow for the ring, and replays
// the ring to one that comes back in time.
func TestEveryFallsOut(t *testing.T) {
	m := wiretest.NewMarket(3, 20)
	m.Moving, m.Churn = 1, 0
	r := newRig(Config{}, m)
	slow, other := connect(t, r.Hub), connect(t, r.Hub)
	defer slow.s.Detach()
	slow.ask(`{"op":"subscribe","all":true,"mode":"every"}`)
	other.ask(`{"op":"subscribe","all":true,"mode":"every"}`)
	r.tick(1)
	pos := m.Board().Seq
	held := other.replica.Of(1)
	other.s.Detach()
	slow.slow = true
	for range 100 {
		r.tick(1)
	}
	back := connect(t, r.Hub)
	back.replica.Resume = held
	if a := back.ask(`{"op":"subscribe","all":true,"mode":"every","since":{"epoch":"k3test","seq":%d}}`, pos); !*a.Recovered {
		t.Fatal("not recovered")
	}
	if got := back.replica.Of(1).Pos; got < m.Board().Seq-8 || back.replica.Messages < 80 {
		t.Fatalf("at %d of %d after %d messages", got, m.Board().Seq, back.replica.Messages)
	}
	back.s.Detach()
	for range 300 {
		r.tick(1)
	}
	slow.drain()
	if slow.code != wire.CloseSlow {
		t.Fatalf("closed with %d", slow.code)
	}
	late := connect(t, r.Hub)
	defer late.s.Detach()
	if a := late.ask(`{"op":"subscribe","all":true,"mode":"every","since":{"epoch":"k3test","seq":%d}}`, pos); *a.Recovered {
		t.Fatal("recovered what is lost")
	}
}

// TestSince answers positions that cannot be trusted with a snapshot.
func TestSince(t *testing.T) {
	m := wiretest.NewMarket(3, 20)
	m.Churn = 0
	r := newRig(Config{Gone: func(seq uint64) bool { return seq > 4 && seq <= 7 }}, m)
	for m.Board().Seq < 20 {
		r.tick(1)
	}
	f := func(epoch string, seq uint64, options string, want bool) {
		t.Helper()
		c := connect(t, r.Hub)
		defer c.s.Detach()
		c.replica.Resume = &wiretest.Channel{Rows: map[market.ID]wiretest.Row{}, Whole: true, Pos: seq}
		n := len(c.answers)
		c.s.Receive([]byte(`{"op":"subscribe","tokens":[1],"fields":["price"],"since":{"epoch":"` + epoch + `","seq":` + market.FromInt(int64(seq)).String() + `}` + options + `}`))
		if a := c.answers[n]; a.Type != "subscribed" || *a.Recovered != want {
			t.Fatalf("since %s:%d%s: got %+v", epoch, seq, options, a)
		}
	}
	last := m.Board().Seq
	f("k3test", last, ``, true)
	f("k3test", last+1, ``, false)
	f("other", last, ``, false)
	f("k3test", 4, ``, true)
	f("k3test", 5, ``, false)
	f("k3test", 7, ``, false)
	f("k3test", 8, ``, true)
	f("k3test", last, `,"deadband_bps":5`, false)
	f("k3test", last, `,"rate":1`, true)
}

// TestAutoRate follows the volatility of the subscribed tokens.
func TestAutoRate(t *testing.T) {
	f := func(volatility float64, is, want wire.Rate) {
		t.Helper()
		s := &market.Snapshot{ID: 1, Seq: 1}
		s.Put(market.FieldVolatility24h, market.Fixed(volatility, -6))
		b := &market.Board{Seq: 1, Shards: [][]*market.Snapshot{{s}}, Index: []map[market.ID]int32{{1: 0}}}
		session := &Session{view: &view{board: b}}
		if got := session.autoRate(&selection{all: true}, is); got != want {
			t.Fatalf("volatility %v from %s: got %s, not %s", volatility, is, got, want)
		}
	}
	f(3, wire.RateAuto, wire.RateTick)
	f(1.2, wire.RateAuto, wire.Rate5)
	f(0.5, wire.RateAuto, wire.Rate1)
	f(0.01, wire.RateAuto, wire.RateTenth)
	f(0.39, wire.Rate1, wire.Rate1) // not far enough below the border
	f(0.35, wire.Rate1, wire.RateHalf)
	f(0.42, wire.RateHalf, wire.RateHalf)
	f(0.45, wire.RateHalf, wire.Rate1)
}

// TestLoadLowersRates gives a client that cannot keep up a slower rate, and the
// old one back when it can.
func TestLoadLowersRates(t *testing.T) {
	m := wiretest.NewMarket(3, 20)
	m.Moving, m.Churn = 1, 0
	r := newRig(Config{Stall: 1 << 60}, m)
	c, other := connect(t, r.Hub), connect(t, r.Hub)
	defer c.s.Detach()
	defer other.s.Detach()
	other.ask(`{"op":"subscribe","all":true}`) // and keeps up
	a := c.ask(`{"op":"subscribe","all":true}`)
	rate := func() string { return c.s.members[0].page.rate.String() }
	round := func(slow bool) {
		c.slow = slow
		for range 4 {
			r.tick(1)
		}
		c.drain()
		r.now = r.now.Add(time.Second)
		r.sweep(r.now)
		c.drain()
	}
	for range 2 * adaptEvery {
		round(true)
	}
	if rate() == "tick" {
		t.Fatal("the rate stays")
	}
	for range 100 * adaptEvery {
		round(false)
	}
	if rate() != "tick" || c.replica.Of(a.Sub) == nil {
		t.Fatalf("rate %s in the end", rate())
	}
	if s := r.Stats(); s.Rates < 2 || s.Conflated == 0 || s.Saved == 0 {
		t.Fatalf("got %+v", s)
	}
}

// TestVerifyWaits answers a verify at the next exact position, heals, and bounds
// those that wait.
func TestVerifyWaits(t *testing.T) {
	m := wiretest.NewMarket(3, 20)
	m.Moving, m.Churn = 1, 0
	r := newRig(Config{ErrorsPerMinute: 1e9, MessageBurst: 1e9}, m)
	first, c := connectAs(t, r.Hub, wire.EncodingBinary), connectAs(t, r.Hub, wire.EncodingBinary)
	defer first.s.Detach()
	defer c.s.Detach()
	const subscribe = `{"op":"subscribe","all":true,"rate":0.1}`
	first.ask(subscribe)
	r.tick(1)
	r.tick(1)
	c.boards = m.Boards
	a := c.ask(subscribe) // at a tick that its pace has not had
	c.subs[a.Sub] = &sub{no: a.Sub, all: true}
	ask := func() { c.s.Receive([]byte(`{"op":"verify","sub":1,"tokens":[3,1,2,99],"heal":true}`)) }
	for range maxChecks {
		ask()
	}
	if c.sums != 0 {
		t.Fatal("answered between two rounds")
	}
	n := len(c.answers)
	if ask(); c.answers[n].Code != "busy" {
		t.Fatalf("got %+v", c.answers[n])
	}
	r.now = r.now.Add(11 * time.Second)
	r.tick(1)
	if c.sums != 3*maxChecks {
		t.Fatalf("%d sums", c.sums)
	}
}

// TestRankedLimit refuses what needs a shared channel where there is none left.
func TestRankedLimit(t *testing.T) {
	r := newRig(Config{Channels: 1, ErrorsPerMinute: 1e9}, wiretest.NewMarket(3, 20))
	c := connect(t, r.Hub)
	defer c.s.Detach()
	f := func(what, want string) {
		t.Helper()
		m := c.ask(`{"op":"subscribe",%s}`, what)
		if m.Type != want && m.Code != want {
			t.Fatalf("%s: got %+v", what, m)
		}
	}
	f(`"top":{"by":"velocity","n":3}`, "subscribed")
	f(`"top":{"by":"velocity","n":4}`, "busy")
	f(`"top":{"by":"velocity","n":3}`, "subscribed")
	f(`"all":true,"mode":"every"`, "busy")
	f(`"all":true`, "subscribed")
}

// TestKeys bounds connections by key, and closes those of one.
func TestKeys(t *testing.T) {
	r := newRig(Config{PerKey: 2, PerAddress: 3, CountLoopback: true}, wiretest.NewMarket(3, 3))
	r.Ready()
	visitor := func(key string) Visitor {
		return Visitor{Addr: netip.MustParseAddr("127.0.0.1"), Key: key, Over: "test"}
	}
	var open []*client
	for _, key := range []string{"a", "a", "b"} {
		l, err := r.Admit(visitor(key))
		if err != nil {
			t.Fatal(err)
		}
		c := &client{t: t, replica: wiretest.NewReplica()}
		c.s = r.Attach(c, Peer{Framing: lines{}, Lease: l})
		open = append(open, c)
	}
	if _, err := r.Admit(visitor("c")); err != ErrAddress {
		t.Fatalf("got %v", err)
	}
	if _, err := r.Admit(Visitor{Key: "a"}); err != ErrKey {
		t.Fatalf("got %v", err)
	}
	list := r.Connections(10)
	if len(list) != 3 || list[0].Who.Key != "a" || list[0].Messages != 1 || len(r.Connections(1)) != 1 {
		t.Fatalf("got %+v", list)
	}
	if n := r.Disconnect(wire.ClosePolicy, func(c *Connection) bool { return c.Who.Key == "a" }); n != 2 || open[0].code != wire.ClosePolicy || open[2].code != 0 {
		t.Fatalf("%d closed", n)
	}
	for _, c := range open {
		c.s.Detach()
	}
	if _, err := r.Admit(Visitor{Key: "a"}); err != nil {
		t.Fatal(err)
	}
}

// TestSlowReason tells where a client that reads too slowly shall go on.
func TestSlowReason(t *testing.T) {
	r := newRig(Config{}, wiretest.NewMarket(3, 20))
	c := connect(t, r.Hub)
	defer c.s.Detach()
	c.ask(`{"op":"subscribe","all":true}`)
	if got := c.s.reason(wire.CloseSlow); !strings.HasSuffix(got, "resume since 1") {
		t.Fatalf("got %q", got)
	}
}

// TestSurge wants memory back once after many connections, and not for few.
func TestSurge(t *testing.T) {
	var s surge
	f := func(opened uint64, sweeps, want int) {
		t.Helper()
		got := 0
		for range sweeps {
			if s.over(opened) {
				got++
			}
		}
		if got != want {
			t.Fatalf("%d connections, %d sweeps: over %d times, not %d", opened, sweeps, got, want)
		}
	}
	f(0, 20, 0)
	f(500, 50, 0)
	f(1200, 10, 0)
	f(1300, 10, 0)
	f(1300, 50, 1)
	f(2200, 50, 0)
	f(2400, 50, 1)
}

// TestCostlyLimits refuses what would cost everybody: too much on one connection
// is its own fault, too much of all is nobody's.
func TestCostlyLimits(t *testing.T) {
	r := newRig(Config{Every: 8, Heavy: 3, Forms: 3, ErrorsPerMinute: 1e9}, wiretest.NewMarket(3, 20))
	c, other := connect(t, r.Hub), connect(t, r.Hub)
	defer c.s.Detach()
	defer other.s.Detach()
	f := func(c *client, what, want string) {
		t.Helper()
		m := c.ask(`{"op":"subscribe",%s}`, what)
		if m.Type != want && m.Code != want || (m.Code == "busy") != (m.RetryMS > 0) {
			t.Fatalf("%s: got %+v", what, m)
		}
	}
	f(c, `"all":true,"mode":"every"`, "subscribed")
	f(c, `"all":true,"mode":"every"`, "subscribed") // the same channel
	f(other, `"all":true,"mode":"every","view":"full"`, "busy")
	f(other, `"tokens":[1],"mode":"every","view":"full"`, "subscribed")
	f(c, `"tokens":[1],"deadband_bps":5`, "subscribed")
	f(c, `"top":{"by":"price","n":2}`, "subscribed")
	f(c, `"tokens":[2],"deadband_bps":5`, "limit")
	f(c, `"tokens":[1],"fields":["price"]`, "subscribed")
	f(c, `"tokens":[1],"fields":["velocity"]`, "limit")
	f(c, `"top":{"by":"price","n":2},"mode":"every"`, "bad_value")
}
