package sse

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/fanout/loop"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

// atEachID returns a check that holds exact positions against the board.
func (r *rig) atEachID(has func(market.ID) bool) func(*wiretest.Replica, uint64) error {
	return func(rep *wiretest.Replica, pos uint64) error {
		c := rep.Channels[rep.Last.Ch]
		if !c.Exact {
			return nil // a snapshot may hold newer values, until the next message
		}
		b := r.board(pos)
		if b == nil {
			return fmt.Errorf("there is no board %d", pos)
		}
		return wiretest.Diff(b, has, &c.Format, c.Rows)
	}
}

// TestReplicas runs clients against a market in full swing and compares them
// with the board at every id.
func TestReplicas(t *testing.T) { eachBackend(t, testReplicas) }

func testReplicas(t *testing.T, cfg loop.Config) {
	t.Helper()
	r := newRig(t, options{loops: cfg, hub: fanout.Config{Batch: 8 << 10}})
	jobs := []string{"live", "live?view=full", "live?view=velocity&digits=compact", "live?fields=price,rank", "live?view=full&rate=20", "live?rate=auto"}
	var goal atomic.Uint64
	var exact atomic.Int64
	begun := make(chan struct{}, len(jobs))
	failed := make(chan error, len(jobs))
	for _, path := range jobs {
		s := r.open(t, path)
		go func() {
			rep, first := wiretest.NewReplica(), true
			err := s.follow(rep, r.atEachID(nil), func(m *wiretest.Message, pos uint64) bool {
				if first && pos > 0 {
					first = false
					begun <- struct{}{}
				}
				if c := rep.Channels[m.Ch]; c != nil && c.Exact {
					exact.Add(1)
				}
				g := goal.Load()
				return g > 0 && pos >= g && rep.Channels[m.Ch].Exact
			})
			if err != nil {
				err = fmt.Errorf("%s: %w", path, err)
			}
			failed <- err
		}()
	}
	for range jobs {
		select {
		case <-begun:
		case err := <-failed:
			t.Fatal(err)
		}
	}
	for range 300 {
		r.tick()
	}
	r.m.Moving = 1 // everybody is due something at the last seq
	last := advance(r.m)
	for len(last.Parts[0]) == 0 { // a quiet one
		r.past.Store(last.Env.Seq, last.Board)
		last = advance(r.m)
	}
	r.past.Store(last.Env.Seq, last.Board)
	goal.Store(last.Env.Seq)
	r.hub.Publish(last)
	for range jobs {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if exact.Load() < int64(len(jobs)) {
		t.Errorf("%d positions compared", exact.Load())
	}
}

// TestOneToken follows one token through many reconnects; each goes on where the
// last one ended and brings only what is newer.
func TestOneToken(t *testing.T) {
	r := newRig(t, options{})
	r.m.Churn = 0
	rep := wiretest.NewReplica()
	last := "" // id
	for i := range 20 {
		var headers []string
		if last != "" {
			headers = append(headers, "Last-Event-ID: "+last)
		}
		s := r.open(t, "token-7/live?view=full", headers...)
		seq := uint64(0)
		before, _ := position(last)
		err := s.follow(rep, func(rep *wiretest.Replica, pos uint64) error {
			last = "k3test:" + strconv.FormatUint(pos, 10)
			return r.atEachID(func(id market.ID) bool { return id == 7 })(rep, pos)
		}, func(m *wiretest.Message, pos uint64) bool {
			switch {
			case m.Type == "subscribed" && (m.Tokens != 1 || *m.Recovered != (i > 0)):
				t.Fatalf("connection %d: %+v", i, m)
			case m.Type == "delta" && m.Prev != nil && before != nil && *m.Prev < before.Seq:
				t.Fatalf("connection %d goes back to %d before %d", i, *m.Prev, before.Seq)
			case m.Type == "snapshot" && i > 0:
				t.Fatalf("connection %d: snapshot", i)
			}
			if (pos > 0 || i > 0) && seq == 0 {
				for seq == 0 || seq < pos {
					seq = r.tick().Board.Token(7).Seq
				}
			}
			return seq > 0 && pos >= seq
		})
		if err != nil {
			t.Fatal(err)
		}
		rep.Resume = rep.Of(1)
		kept := *rep.Resume
		rep = wiretest.NewReplica()
		rep.Resume = &kept
		_ = s.nc.Close()
		for range i { // while nobody looks
			r.tick()
		}
	}
}

// TestRestart goes on at a server that has taken the lineage over.
func TestRestart(t *testing.T) {
	m := wiretest.NewMarket(3, 60)
	rep, last, tokens := wiretest.NewReplica(), "", 0
	for i := range 6 {
		r := newRig(t, options{market: m})
		var headers []string
		if last != "" {
			headers = append(headers, "Last-Event-ID: "+last)
		}
		s := r.open(t, "live?view=full", headers...)
		goal, ticked := uint64(0), false
		err := s.follow(rep, func(rep *wiretest.Replica, pos uint64) error {
			last = "k3test:" + strconv.FormatUint(pos, 10)
			return r.atEachID(nil)(rep, pos)
		}, func(m *wiretest.Message, pos uint64) bool {
			if m.Type == "subscribed" && *m.Recovered != (i > 0) {
				t.Fatalf("server %d: recovered %v from %s", i, *m.Recovered, last)
			}
			if i > 0 && m.Type == "snapshot" {
				t.Fatalf("server %d sends a snapshot", i)
			}
			if (pos > 0 || m.Type == "subscribed" && i > 0) && !ticked {
				ticked = true
				for goal <= pos {
					goal = changed(r.tick(), goal)
				}
			}
			return goal > 0 && pos >= goal
		})
		if err != nil {
			t.Fatal(err)
		}
		c := *rep.Of(1)
		tokens = len(c.Rows)
		rep = wiretest.NewReplica()
		rep.Resume = &c
		r.stop(wire.CloseRestart)
		for range 3 * i { // the market moves on while no server is there
			advance(m)
		}
	}
	if tokens == 0 {
		t.Fatal("no rows")
	}
}

// TestNamesInjectNothing gives a token names that look like events.
func TestNamesInjectNothing(t *testing.T) {
	m := wiretest.NewMarket(1, 5)
	evil := "a\r\n\r\nevent: drain\nid: x:9\ndata: {}\n\n\x00\u2028\u2029\u0085\b\"\\"
	token := m.Board().Token(3)
	token.Info = &market.Info{Symbol: evil, Name: evil, Slug: evil}
	r := newRig(t, options{market: m})
	for _, path := range []string{"live", "3/live"} {
		s := r.open(t, path)
		s.next()
		e := s.next()
		rep, err := wiretest.Decode([]byte(e.data))
		if err != nil || e.name != "snapshot" || !e.hasID || len(rep.Rows) == 0 {
			t.Fatalf("got %+v %v", e, err)
		}
		for _, row := range rep.Rows {
			var name string
			if err := json.Unmarshal(row["name"], &name); err != nil || string(row["id"]) == "3" && name != evil {
				t.Fatalf("got %q %v", name, err)
			}
		}
		_ = s.nc.Close()
	}
}

// TestClientSpeaks sends what a stream has no use for.
func TestClientSpeaks(t *testing.T) { eachBackend(t, testClientSpeaks) }

func testClientSpeaks(t *testing.T, cfg loop.Config) {
	t.Helper()
	r := newRig(t, options{loops: cfg})
	r.m.Churn, r.m.Moving = 0, 1
	goesOn := func(s *stream) {
		t.Helper()
		for seen := false; ; {
			e := s.next()
			if e.name == "delta" {
				return
			}
			if !seen && e.name == "snapshot" && e.hasID {
				seen = true
				for changed(r.tick(), 0) == 0 {
				}
			}
		}
	}
	f := func(raw string) {
		t.Helper()
		s, res := r.dial(t, raw)
		if res.StatusCode != http.StatusOK || !res.Close || res.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("%.80q: %d %v", raw, res.StatusCode, res.Header)
		}
		goesOn(s)
		if _, err := io.WriteString(s.nc, "more\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		_ = s.nc.Close()
	}
	live := get("live")
	f(live + live + "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	f(live + "body bytes")
	f(live + strings.Repeat("x", 8<<10))
	f("GET /api/v1/tokens/live HTTP/1.0\r\n\r\n")
	f("GET /api/v1/tokens/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
	f(get("live", "Connection: keep-alive"))
	f(get("live", "Connection: close"))
	f(get("live", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"))
	// After another request on the same connection.
	s, res := r.dial(t, "GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
	_, _ = io.Copy(io.Discard, res.Body)
	if _, err := io.WriteString(s.nc, live); err != nil {
		t.Fatal(err)
	}
	if res := s.answer(live); res.StatusCode != http.StatusOK {
		t.Fatalf("status %d", res.StatusCode)
	}
	goesOn(s)
	_ = s.nc.Close()
	if _, res := r.dial(t, strings.Replace(live, "\r\n\r\n", "\r\nContent-Length: 5\r\n\r\nhello", 1)); res.StatusCode != http.StatusBadRequest {
		t.Fatalf("a body: status %d", res.StatusCode)
	}
	// Too much of it.
	s = r.open(t, "1/live")
	if _, err := s.nc.Write(make([]byte, inputMost+1)); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(s.br)
	if !strings.HasSuffix(string(rest), ": closed, 1008 nothing is read on a stream\n\n") || err != nil {
		t.Fatalf("got %s %v", rest, err)
	}
}

// TestLeaving wants a client that is gone to be noticed before anything is
// written to it, also where it only stops sending.
func TestLeaving(t *testing.T) { eachBackend(t, testLeaving) }

func testLeaving(t *testing.T, cfg loop.Config) {
	t.Helper()
	r := newRig(t, options{loops: cfg})
	f := func(leave func(*net.TCPConn) error) {
		t.Helper()
		s := r.open(t, "live")
		for e := s.next(); !e.hasID; e = s.next() {
		}
		nc, _ := s.nc.(*net.TCPConn)
		begin := time.Now()
		if err := leave(nc); err != nil {
			t.Fatal(err)
		}
		for r.hub.Stats().Connections > 0 {
			<-time.After(time.Millisecond)
			if time.Since(begin) > 5*time.Second {
				t.Fatal("not noticed")
			}
		}
	}
	f((*net.TCPConn).Close)
	f((*net.TCPConn).CloseWrite)
	f(func(nc *net.TCPConn) error { _ = nc.SetLinger(0); return nc.Close() })
}

// TestStops lets a client stop reading: the hub gives it up after Stall, and the
// loop cuts it after CloseWait.
func TestStops(t *testing.T) { eachBackend(t, testStops) }

func testStops(t *testing.T, cfg loop.Config) {
	t.Helper()
	cfg.CloseWait = 200 * time.Millisecond
	r := newRig(t, options{loops: cfg, hub: fanout.Config{Stall: 300 * time.Millisecond}, market: wiretest.NewMarket(1, 20_000)})
	s := r.open(t, "live?view=full") // megabytes: more than the kernels hold
	nc, _ := s.nc.(*net.TCPConn)
	_ = nc.SetReadBuffer(4 << 10)
	other := r.open(t, "1/live")
	begin := time.Now()
	for r.hub.Stats().Connections > 1 {
		<-time.After(5 * time.Millisecond)
		if time.Since(begin) > 20*time.Second {
			t.Fatal("not given up")
		}
	}
	// The sweep comes once a second.
	if d := time.Since(begin); d > 8*time.Second {
		t.Errorf("gone after %s", d)
	}
	if n := r.hub.Stats().ClosedBy[wire.CloseSlow]; n != 1 {
		t.Errorf("%d closed as slow", n)
	}
	if e := other.next(); e.name != "subscribed" {
		t.Errorf("the other stream got %+v", e)
	}
	_ = s.nc.Close()
	_ = other.nc.Close()
}

// TestShutdown wants drain and the end at every client, and nothing left.
func TestShutdown(t *testing.T) { eachBackend(t, testShutdown) }

func testShutdown(t *testing.T, cfg loop.Config) {
	t.Helper()
	r := newRig(t, options{loops: cfg})
	var all []*stream
	for range 20 {
		s := r.open(t, "live")
		for e := s.next(); !e.hasID; e = s.next() {
		}
		all = append(all, s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	begin := time.Now()
	if err := r.hub.Shutdown(ctx, wire.CloseRestart); err != nil || time.Since(begin) > 2*time.Second {
		t.Fatalf("%v after %s", err, time.Since(begin))
	}
	waits := make(map[int]bool)
	for _, s := range all {
		e := s.next()
		m, err := wiretest.Decode([]byte(e.data))
		if err != nil || e.name != "drain" || m.RetryMS < 500 || m.RetryMS != int64(e.retry) || e.hasID {
			t.Fatalf("got %+v %v", e, err)
		}
		waits[e.retry] = true
		if rest, err := io.ReadAll(s.br); string(rest) != ": closed, 1012 server restarts\n\n" || err != nil {
			t.Fatalf("got %q %v", rest, err)
		}
	}
	if len(waits) < 10 {
		t.Errorf("%d different waits for %d clients", len(waits), len(all))
	}
}
