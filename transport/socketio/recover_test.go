package socketio

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// back is the auth of a client that comes back.
func back(pid string, offset any) string {
	text, _ := json.Marshal(map[string]any{"pid": pid, "offset": fmt.Sprint(offset), "token": "x"})
	return string(text)
}

// offsetOf returns the newest offset in packets, or before.
func offsetOf(t *testing.T, before string, packets []string) string {
	t.Helper()
	for _, text := range packets {
		if text[0] == '2' {
			if d := parse(t, text); d.Offset != "" {
				before = d.Offset
			}
		}
	}
	return before
}

// TestRecovery loses a connection: subscriptions are there when the client is back,
// and what it missed comes as deltas.
func TestRecovery(t *testing.T) {
	virtually(t, Config{}, fanout.Config{}, func(r *rig) {
		r.m.Moving = 1
		p, h := r.connect("")
		p.say(`2["subscribe_token",1]`, `2["subscribe_token",[2,3]]`, `2["subscribe_token","*",{"rate":1}]`)
		offset := ""
		for range 5 {
			r.tick()
			pause(time.Second)
			offset = offsetOf(t, offset, p.take())
		}
		p.drop()
		for range 3 {
			r.tick()
			pause(time.Second)
		}
		p, again := r.connect(back(h.PID, offset))
		if again != h {
			t.Fatalf("%+v, not %+v", again, h)
		}
		kinds := map[string]int{}
		for range 3 {
			for _, text := range p.take() {
				d := parse(t, text)
				if d.Name == "stale" {
					continue
				}
				kinds[d.Name+" "+d.Type]++
				if n, _ := strconv.ParseUint(d.Offset, 10, 64); !d.More && n != d.Seq {
					t.Errorf("offset %q: %s", d.Offset, text)
				}
			}
			r.tick()
			pause(time.Second)
		}
		if kinds["token_update delta"] == 0 || kinds["bulk_update delta"] < 2 || len(kinds) != 2 {
			t.Errorf("got %v", kinds)
		}
		// They are known by name as before.
		want := `31[{"ok":true,"unsubscribed":[1,2],"unknown":[]}]`
		if got := p.say(`21["unsubscribe_token",[1,2]]`); !slices.Contains(got, want) {
			t.Errorf("got %q", got)
		}
		if n := r.s.recovered.Load(); n != 1 {
			t.Errorf("%d recoveries", n)
		}
	})
}

// TestForgetting tells of whom nothing is remembered.
func TestForgetting(t *testing.T) {
	f := func(name string, want bool, cfg Config, leave func(p *peer)) {
		t.Helper()
		virtually(t, cfg, fanout.Config{}, func(r *rig) {
			p, h := r.connect("")
			p.say(`2["subscribe_token",1]`)
			leave(p)
			synctest.Wait()
			_, again := r.connect(back(h.PID, 0))
			if got := again.PID == h.PID; got != want {
				t.Errorf("%s: %v", name, got)
			}
			if _, third := r.connect(back(h.PID+"x", 0)); third.PID == h.PID {
				t.Errorf("%s: another pid is taken for it", name)
			}
		})
	}
	f("lost", true, Config{}, (*peer).drop)
	f("closed by the client", true, Config{}, func(p *peer) { p.end(wire.CloseNormal, "") })
	f("no pong", true, Config{}, func(p *peer) { p.end(wire.CloseNoPong, "") })
	f("too slow", true, Config{}, func(p *peer) { p.end(wire.CloseSlow, "") })
	f("two minutes later", true, Config{}, func(p *peer) { p.drop(); pause(2*time.Minute - time.Second) })
	f("later than that", false, Config{}, func(p *peer) { p.drop(); pause(2*time.Minute + time.Second) })
	f("disconnected", false, Config{}, func(p *peer) { p.say("1"); p.drop() })
	f("broke the protocol", false, Config{}, func(p *peer) { p.say("nonsense") })
	f("made errors", false, Config{}, func(p *peer) { p.end(wire.CloseErrors, "") })
	f("no room", false, Config{Memory: 1}, (*peer).drop)
}

// TestTakeover comes back before the server knows that the old connection is lost.
func TestTakeover(t *testing.T) {
	virtually(t, Config{}, fanout.Config{}, func(r *rig) {
		p, h := r.connect("")
		p.say(`2["subscribe_token",[1,2]]`)
		q, again := r.connect(back(h.PID, ""))
		if again != h || !p.closed() {
			t.Fatalf("%+v, closed %v", again, p.closed())
		}
		r.m.Moving = 1
		for range 5 { // some ticks have no rows
			r.tick()
			pause(time.Second)
		}
		if got := brief(t, q.take()); !strings.HasPrefix(got, "bulk_update snapshot 1 2; bulk_update delta ") {
			t.Errorf("got %s", got)
		}
		// And again: what is remembered moved along.
		q.drop()
		if _, third := r.connect(back(h.PID, "")); third != h {
			t.Errorf("%+v", third)
		}
		if n := len(r.s.live.by); n != 1 {
			t.Errorf("%d sockets", n)
		}
	})
}

// TestTakeoverRace comes back in the moment in which the server learns that the old
// connection is lost: one of them hands over what the client had.
func TestTakeoverRace(t *testing.T) {
	virtually(t, Config{}, fanout.Config{}, func(r *rig) {
		p, h := r.connect("")
		for n := range 2000 {
			q := r.dial()
			var both sync.WaitGroup
			both.Go(p.drop)
			both.Go(func() { q.do(func() { q.client.Text([]byte("0" + back(h.PID, ""))) }) })
			both.Wait()
			if got := q.take(); len(got) != 1 || !strings.Contains(got[0], h.PID) {
				t.Fatalf("round %d: %q", n, got)
			}
			p = q
		}
		if n, _ := r.s.memories.count(); n != 0 {
			t.Errorf("%d are remembered", n)
		}
	})
}

// TestBounds keeps the newest memories.
func TestBounds(t *testing.T) {
	virtually(t, Config{Memory: 4000}, fanout.Config{}, func(r *rig) {
		var all []hello
		for range 10 {
			p, h := r.connect("")
			p.say(`2["subscribe_token",1]`)
			p.drop()
			synctest.Wait()
			all = append(all, h)
		}
		n, bytes := r.s.memories.count()
		if n == 0 || n == 10 || bytes > 4000 {
			t.Fatalf("%d, %d bytes", n, bytes)
		}
		for i, h := range all {
			if m := r.s.memories.take(h.PID); (m != nil) != (i >= 10-n) {
				t.Errorf("%d: %v", i, m)
			}
		}
		if n, bytes := r.s.memories.count(); n != 0 || bytes != 0 {
			t.Errorf("%d, %d bytes are left", n, bytes)
		}
	})
}
