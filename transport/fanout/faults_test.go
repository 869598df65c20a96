package fanout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// verify right after a snapshot, nothing pending.
func TestVerifyAtOnce(t *testing.T) {
	for _, sub := range []string{`"tokens":[1]`, `"all":true`} {
		r := newHRig(3, Config{})
		c := r.rec(t, wire.EncodingJSON)
		c.ask(`{"op":"subscribe",%s}`, sub)
		c.ask(`{"op":"verify","sub":1,"tokens":[1]}`)
		if c.has("checksums") == 0 {
			t.Errorf("%s: verify not answered though nothing is pending", sub)
		}
		for i := range 14 {
			r.now = r.now.Add(time.Second)
			r.set(2, market.FieldVelocity, int64(100+i)) // not in the view
			r.sweep(r.now)
		}
		if c.has("checksums") == 0 {
			t.Errorf("%s: nor after 14 s", sub)
		}
		r2 := newHRig(3, Config{})
		c = r2.rec(t, wire.EncodingJSON)
		c.ask(`{"op":"subscribe",%s}`, sub)
		c.ask(`{"op":"verify","sub":1,"tokens":[1]}`)
		for range 600 {
			r2.now = r2.now.Add(time.Second)
			r2.sweep(r2.now)
		}
		if c.has("checksums") == 0 {
			t.Errorf("%s: nor after 10 minutes without a tick", sub)
		}
	}
}

// stale event of a channel without freshness, member fresh.
func TestStaleWithoutFreshness(t *testing.T) {
	r := newHRig(3, Config{})
	c := r.rec(t, wire.EncodingJSON)
	c.ask(`{"op":"subscribe","all":true,"fields":["price"]}`)
	r.set(2, market.FieldFreshness, int64(market.Stale))
	for i := range 60 {
		r.now = r.now.Add(time.Second)
		r.set(1, market.FieldPrice, int64(100+i))
		r.sweep(r.now)
	}
	if c.has(`"stale"`) == 0 {
		t.Errorf("no stale event\n%s", strings.Join(c.msgs[:6], "\n"))
	}
}

// ranked channel is told of a token that it does not have.
func TestStaleOfRankings(t *testing.T) {
	r := newHRig(3, Config{})
	a, c, d := r.rec(t, wire.EncodingJSON), r.rec(t, wire.EncodingJSON), r.rec(t, wire.EncodingJSON)
	a.ask(`{"op":"subscribe","all":true,"fields":["price"]}`)
	c.ask(`{"op":"subscribe","top":{"by":"price","n":1},"fields":["price"]}`) // token 3
	d.ask(`{"op":"subscribe","top":{"by":"price","n":1},"fields":["price","velocity"]}`)
	r.now = r.now.Add(time.Minute)
	r.set(3, market.FieldPrice, 50) // no longer fresh
	r.now = r.now.Add(time.Minute)
	r.set(1, market.FieldFreshness, int64(market.Stale))
	if c.has(`"stale"`) != 0 {
		t.Errorf("ranked channel of token 3: %s", c.msgs[len(c.msgs)-1])
	}
	r.now = r.now.Add(time.Minute)
	r.set(3, market.FieldFreshness, int64(market.Stale))
	if d.has(`"stale"`) == 0 {
		t.Errorf("ranked channel is not told of its own token")
	}
}

// deadband without freshness in its fields.
func TestStaleUnderADeadband(t *testing.T) {
	r := newHRig(3, Config{})
	c := r.rec(t, wire.EncodingJSON)
	c.ask(`{"op":"subscribe","tokens":[1],"fields":["price"],"deadband_bps":5}`)
	r.now = r.now.Add(time.Minute)
	r.set(1, market.FieldPrice, 50)
	r.set(1, market.FieldFreshness, int64(market.Stale))
	for range 20 {
		r.now = r.now.Add(time.Second)
		r.sweep(r.now)
	}
	if c.has(`"stale"`) == 0 {
		t.Errorf("no stale event")
	}
}

// a round of a slow pace between see and join loses what changed in it.
func TestRoundWhileJoining(t *testing.T) {
	r := newHRig(3, Config{})
	a, c := r.rec(t, wire.EncodingJSON), r.rec(t, wire.EncodingJSON)
	a.ask(`{"op":"subscribe","tokens":[1],"rate":1}`)
	r.now = r.now.Add(5 * time.Second)
	c.s.mu.Lock()
	c.s.see() // as handle does
	// meanwhile the fan-out makes the next round, and the other client's lane the page
	r.Publish(r.h.set(2, market.FieldPrice, 777))
	r.advance(r.now)
	a.s.due(new(batch), r.now)
	req, err := wire.DecodeRequest([]byte(`{"op":"subscribe","tokens":[2],"rate":1}`), wire.EncodingJSON)
	if err != nil {
		t.Fatal(err)
	}
	if e := c.s.subscribe(&req, r.now); e != nil {
		t.Fatal(e)
	}
	c.s.flush(r.now)
	c.s.mu.Unlock()
	for i := range 100 {
		r.now = r.now.Add(time.Second)
		r.set(1, market.FieldPrice, int64(1000+i))
		r.sweep(r.now)
	}
	if c.has("777") == 0 {
		t.Errorf("token 2 is 777 and the client never learns it\n%s", strings.Join(c.msgs, "\n"))
	}
}

// waiting verifies with heal make one huge batch.
func TestHealingIsBounded(t *testing.T) {
	r := newHRig(1000, Config{})
	c := r.rec(t, wire.EncodingJSON)
	ids := make([]string, 1000)
	for i := range ids {
		ids[i] = fmt.Sprint(i + 1)
	}
	list := strings.Join(ids, ",")
	c.ask(`{"op":"subscribe","all":true,"view":"full"}`)
	r.now = r.now.Add(time.Minute)
	r.set(1, market.FieldPrice, 50)
	c.pending = true
	r.set(1, market.FieldPrice, 51)
	for range 16 {
		c.ask(`{"op":"verify","sub":1,"tokens":[%s],"heal":true}`, list)
	}
	c.s.Written()
	most := 0
	for _, n := range c.sizes {
		most = max(most, n)
	}
	if most > 64<<10 {
		t.Errorf("one batch of %d bytes, which a stalled connection keeps", most)
	}
}

// evidence is used again.
func TestRatesNeedRounds(t *testing.T) {
	r := newHRig(3, Config{})
	c := r.rec(t, wire.EncodingJSON)
	c.ask(`{"op":"subscribe","tokens":[1]}`)
	c.s.load.rounds = 1<<16 - 1 // 16 of the last 32 rounds
	for range 100 {             // a market without ticks
		r.now = r.now.Add(time.Second)
		r.sweep(r.now)
	}
	if n := c.has(`"effective","sub"`); n > 1 {
		t.Errorf("%d changes of rate without a single round: %s", n, c.msgs[len(c.msgs)-1])
	}
}

func TestResumeBetweenRounds(t *testing.T) {
	r := newHRig(3, Config{})
	a, c := r.rec(t, wire.EncodingJSON), r.rec(t, wire.EncodingJSON)
	a.ask(`{"op":"subscribe","tokens":[1],"digits":"compact","rate":0.1}`) // somebody has the rate
	r.set(1, market.FieldPrice, 50)                                        // a round of the pace
	r.set(2, market.FieldPrice, 777)                                       // seq 3, between two rounds
	c.ask(`{"op":"subscribe","all":true,"digits":"compact","rate":0.1,"since":{"epoch":"k3","seq":2}}`)
	for i := range 100 {
		r.now = r.now.Add(time.Second)
		r.set(1, market.FieldPrice, int64(1000+i))
		r.sweep(r.now)
	}
	if c.has("777") == 0 {
		t.Errorf("recovered at 2, token 2 became 777 at 3, the client never learns it\n%s", strings.Join(c.msgs[1:6], "\n"))
	}
}

func TestResumeIntoAPage(t *testing.T) {
	for _, what := range []string{`"all":true`, `"tokens":[2,3]`} {
		r := newHRig(3, Config{})
		a, b, c := r.rec(t, wire.EncodingJSON), r.rec(t, wire.EncodingJSON), r.rec(t, wire.EncodingJSON)
		a.ask(`{"op":"subscribe","tokens":[1]}`)
		r.set(2, market.FieldPrice, 777) // seq 2
		b.ask(`{"op":"subscribe",%s}`, what)
		b.s.Detach()
		if what != `"all":true` {
			b = r.rec(t, wire.EncodingJSON)
			b.ask(`{"op":"subscribe",%s}`, what)
		}
		c.ask(`{"op":"subscribe",%s,"since":{"epoch":"k3","seq":1}}`, what)
		for i := range 100 {
			r.now = r.now.Add(time.Second)
			r.set(1, market.FieldPrice, int64(1000+i))
			r.sweep(r.now)
		}
		if c.has("777") == 0 {
			t.Errorf("%s: recovered at 1, token 2 became 777 at 2, the client never learns it\n%s", what, strings.Join(c.msgs[1:4], "\n"))
		}
	}
}

func TestVerifyDuringATick(t *testing.T) {
	r := newHRig(3, Config{})
	c := r.rec(t, wire.EncodingJSON)
	c.ask(`{"op":"subscribe","all":true,"mode":"every"}`)
	r.set(1, market.FieldPrice, 50)
	ch := c.s.members[0].ch
	// the fan-out records the next tick and is about to store the round
	tk := r.h.set(1, market.FieldPrice, 999)
	ch.record(r.Hub, &round{view: &view{board: tk.Board}, from: tk.Board.Seq - 1}, false, r.now)
	c.ask(`{"op":"verify","sub":1,"tokens":[1],"heal":true}`)
	for _, m := range c.msgs {
		if strings.Contains(m, `"seq":3`) && strings.Contains(m, `"price":50,`) {
			t.Errorf("heal takes token 1 back from 999 to 50 at the position of 999: %s", m)
		}
	}
}

func TestBrokenChannelAlone(t *testing.T) {
	r := newHRig(3, Config{})
	a, b := r.rec(t, wire.EncodingJSON), r.rec(t, wire.EncodingJSON)
	a.ask(`{"op":"subscribe","all":true}`)
	b.ask(`{"op":"subscribe","all":true,"mode":"every"}`)
	b.s.members[0].ch.sel = nil // what no client can ask for
	for i := range 5 {
		r.Publish(r.h.set(1, market.FieldPrice, int64(1000+i)))
		r.safely(func() { r.step(r.now) }) // as Run does
	}
	if a.has(`"delta"`) == 0 {
		t.Errorf("client A, subscribed to all, got nothing of 5 ticks; panics %d, hub at %d, market at %d", r.Stats().Panics, r.newest().seq(), r.h.b.Seq)
	}
	if a.code != 0 || b.code != wire.CloseInternal {
		t.Errorf("closed %d and %d", a.code, b.code)
	}
}

func TestStalledOnce(t *testing.T) {
	r := newHRig(3, Config{})
	c := r.rec(t, wire.EncodingJSON)
	c.ask(`{"op":"subscribe","all":true}`)
	c.pending = true
	r.set(1, market.FieldPrice, 7)
	r.now = r.now.Add(31 * time.Second)
	for range 5 {
		r.sweep(r.now)
		r.now = r.now.Add(time.Second)
	}
	if n := r.Stats().Stalled; n != 1 {
		t.Errorf("%d stalled connections of one", n)
	}
}

// A second subscription during a tick must not take its channel back.
func TestSnapshotDuringATick(t *testing.T) {
	r := newHRig(3, Config{})
	c := r.rec(t, wire.EncodingJSON)
	c.ask(`{"op":"subscribe","all":true,"mode":"every"}`)
	r.set(1, market.FieldPrice, 50)
	tk := r.h.set(1, market.FieldPrice, 999)
	c.s.members[0].ch.record(r.Hub, &round{view: &view{board: tk.Board}, from: tk.Board.Seq - 1}, false, r.now)
	c.s.Written() // the client is told, the round is not stored yet
	c.ask(`{"op":"subscribe","all":true,"mode":"every"}`)
	if n := c.has(`"type":"snapshot"`); n != 1 {
		t.Errorf("%d snapshots", n)
	}
	r.Publish(tk)
	r.step(r.now)
	if n := c.has(`"type":"snapshot"`); n != 2 {
		t.Errorf("%d snapshots after the round", n)
	}
}

// TestAutoUnderADeadband lets the rate follow the volatility although a deadband
// makes every change of it a snapshot.
func TestAutoUnderADeadband(t *testing.T) {
	r := newHRig(1, Config{})
	r.set(1, market.FieldVolatility24h, 3)
	c := r.rec(t, wire.EncodingJSON)
	defer c.s.Detach()
	c.ask(`{"op":"subscribe","tokens":[1],"rate":"auto","deadband_bps":5}`)
	if c.has(`"rate":"tick"`) != 1 {
		t.Fatalf("a volatile token begins with %q", c.msgs)
	}
	r.set(1, market.FieldVolatility24h, 0)
	for range meanEvery {
		r.set(0, 0, 0)
	}
	snapshots := c.has(`"snapshot"`)
	for range adaptEvery {
		r.now = r.now.Add(time.Second)
		r.sweep(r.now)
	}
	r.now = r.now.Add(20 * time.Second)
	r.set(1, market.FieldPrice, 7)
	if c.has(`"effective","sub":1`) != 1 || c.has(`"rate":0.1`) != 1 || c.has(`"snapshot"`) != snapshots+1 {
		t.Fatalf("got %q", c.msgs)
	}
}
