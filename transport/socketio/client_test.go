package socketio

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// TestPackets sends packets on a new connection: want is what comes, or "!" with the
// code that it is closed with.
func TestPackets(t *testing.T) {
	f := func(want string, packets ...string) {
		t.Helper()
		virtually(t, Config{}, fanout.Config{}, func(r *rig) {
			p := r.dial()
			got := strings.Join(p.say(packets...), "\n")
			if p.closed() {
				got += "!" + p.why
			}
			if i := strings.Index(got, `0{"sid":"`); i >= 0 {
				got = got[:i] + "hello" + strings.TrimLeft(got[strings.IndexByte(got[i:], '}')+i+1:], "\n")
			}
			if got != want {
				t.Errorf("%q: got %q, want %q", packets, got, want)
			}
		})
	}
	const stranger, twice, server = "!closed: packet for a namespace that was not entered", "!closed: CONNECT to a namespace that was entered already", "!closed: packet that only a server sends"
	f("hello", "0")
	f("hello", "0{}")
	f("hello", `0{"apiKey":"secret"}`)
	f("hello", `0{"token":"x","more":[1,{"a":null}]}`)
	f("hello", `0{"apiKey":null}`)
	f("hello", `0{"pid":"unknown","offset":"12"}`)
	f("hello", `0{"pid":"unknown","offset":"x"}`)
	f(`4{"message":"apiKey, token, pid and offset of the auth payload are strings"}`, `0{"token":5}`)
	f(`4{"message":"a string of the auth payload is longer than 256 bytes"}`, `0{"token":"`+strings.Repeat("x", 257)+`"}`)
	f(`4{"message":"the auth payload is longer than 4 KiB"}`, `0{"a":"`+strings.Repeat("x", 4096)+`"}`)
	f("4/custom,{\"message\":\"Invalid namespace\"}", "0/custom")
	f("4/custom,{\"message\":\"Invalid namespace\"}\nhello", "0/custom,{}", "0")
	f("hello4/x,{\"message\":\"Invalid namespace\"}", "0", "0/x,")
	f("hello"+twice, "0", "0")
	f("hello"+twice, "0", `0{"token":"x"}`)
	f(stranger, `2["subscribe_token",1]`)
	f("hello"+stranger, "0", `2/x,["subscribe_token",1]`)
	f("hello"+stranger, "0", "1", `2["subscribe_token",1]`)
	f("hello", "0", "1")
	f("hello"+stranger, "0", "1", "1")
	f("hello", "0", "37[]", `31["x",{}]`)
	f("hello"+server, "0", `4{"message":"x"}`)
	f("hello!closed: event has no name, or a reserved one", "0", `2["connect"]`)
	f("hello!closed: data does not fit the packet type", "0", "2{}")
	f("!closed: not a packet type of Socket.IO", "abc")
	f("!closed: not a packet type of Socket.IO", "7")
}

// TestNoConnect waits for clients that say nothing.
func TestNoConnect(t *testing.T) {
	virtually(t, Config{}, fanout.Config{}, func(r *rig) {
		silent, stranger := r.dial(), r.dial()
		stranger.say("0/other")
		left, _ := r.connect("")
		left.say("1")
		there, _ := r.connect("")
		pause(10*time.Second - 1)
		for _, p := range []*peer{silent, stranger, left, there} {
			if p.closed() {
				t.Fatal("closed too early")
			}
		}
		pause(2)
		synctest.Wait()
		for _, p := range []*peer{silent, stranger, left} {
			if p.code != wire.ClosePolicy {
				t.Errorf("closed with %d", p.code)
			}
		}
		if pause(time.Minute); there.closed() {
			t.Error("closed who is connected")
		}
	})
}

// TestAbuse wants the limits of the native stream.
func TestAbuse(t *testing.T) {
	f := func(text string, n int, code wire.CloseCode) {
		t.Helper()
		virtually(t, Config{}, fanout.Config{}, func(r *rig) {
			p, _ := r.connect("")
			for range n - 1 {
				if p.say(text); p.closed() {
					t.Fatalf("%s: closed early with %d", text, p.code)
				}
			}
			if p.say(text); p.code != code {
				t.Errorf("%s: closed with %d", text, p.code)
			}
		})
	}
	f(`2["nothing"]`, 5, wire.CloseErrors)
	f(`2["subscribe_token",null]`, 5, wire.CloseErrors)
	f(`2["unsubscribe_token",{}]`, 5, wire.CloseErrors)
}

// TestFlood wants packets of every kind to have an end, also where a client leaves the
// namespace and enters it again to be counted anew.
func TestFlood(t *testing.T) {
	f := func(packets ...string) {
		t.Helper()
		virtually(t, Config{}, fanout.Config{}, func(r *rig) {
			p, _ := r.connect("")
			for n := range 2 * packetBurst {
				p.do(func() { p.client.Text([]byte(packets[n%len(packets)])) })
				if n == packetBurst-10 && p.closed() {
					t.Errorf("%q: closed early with %d", packets, p.code)
				}
			}
			if p.code != wire.CloseRate {
				t.Errorf("%q: closed with %d", packets, p.code)
			}
			p.take()
		})
	}
	f("31[]")
	f("0/other")
	f("1", "0")
	f(`2["unsubscribe_token","*"]`, "1", "0")
	f(`2["nothing"]`, "1", "0")
}

// TestSteadyPackets is a client that says as much as it may, for long.
func TestSteadyPackets(t *testing.T) {
	virtually(t, Config{}, fanout.Config{}, func(r *rig) {
		p, _ := r.connect("")
		for range 10 * packetBurst {
			p.do(func() { p.client.Text([]byte(`2["unsubscribe_token","*"]`)) })
			pause(time.Second / 20)
		}
		if p.closed() {
			t.Errorf("closed with %d: %s", p.code, p.why)
		}
	})
}

// TestPanicWhileEntering wants nothing left of a session that could not say hello.
func TestPanicWhileEntering(t *testing.T) {
	virtually(t, Config{}, fanout.Config{}, func(r *rig) {
		p := r.dial()
		p.sick = true
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			p.say("0")
		}()
		p.drop()
		synctest.Wait()
		if all := r.hub.Connections(10); len(all) > 0 {
			t.Errorf("%d sessions are left", len(all))
		}
	})
}

// TestShutdown announces the end to who is connected, and ends who is not.
func TestShutdown(t *testing.T) {
	virtually(t, Config{}, fanout.Config{}, func(r *rig) {
		waiting := r.dial()
		p, _ := r.connect("")
		p.say(`2["subscribe_token",1]`)
		go func() {
			r.s.Close()
			_ = r.hub.Shutdown(t.Context(), wire.CloseRestart)
		}()
		if got := brief(t, p.take()); got != "drain drain" || p.code != wire.CloseRestart || waiting.code != wire.CloseRestart {
			t.Errorf("%s, %d, %d", got, p.code, waiting.code)
		}
		if n, _ := r.s.memories.count(); n != 0 {
			t.Errorf("%d are remembered", n)
		}
	})
}
