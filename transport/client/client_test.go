package client

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// TestConversation is one of everything.
func TestConversation(t *testing.T) {
	script(t, func(s *server) {
		p := s.accept()
		r := p.want("subscribe")
		if r.raw != `{"op":"subscribe","id":"1","symbols":["BTC","LTC"]}` {
			t.Error(r.raw)
		}
		p.say(ackText(r.ID, 7, 12, false, ""))
		p.text(snapText, 12)
		p.frame(0x80|opPing, []byte("?"))
		if op, data, _ := p.read(); op != opPong || string(data) != "?" {
			t.Errorf("%d %q is no pong", op, data)
		}
		p.frame(opText, []byte(`{"type":"delta","ch":12,"seq":813,`)) // in fragments, with a ping between
		p.frame(0x80|opPing, nil)
		p.read()
		p.frame(0x80|opContinue, []byte(`"prev":812,"source":"market","rows":[{"id":1,"price":64011}],"removed":[2]}`))
		p.text(`{"type":"heartbeat","ch":12,"seq":829}`)
		p.text(`{"type":"heartbeat","server_time":1763661615123}`)
		r = p.want("list")
		p.text(`{"type":"subscriptions","id":%q,"items":[{"sub":7,"ch":12,"tokens":2,"effective":{"rate":"tick"}}]}`, r.ID)
		r = p.want("ping")
		p.text(`{"type":"pong","id":%q,"server_time":1763661600123}`, r.ID)
		r = p.want("update")
		if string(r.Rate) != "0.5" {
			t.Error(r.raw)
		}
		p.say(ackText(r.ID, 7, 15, true, `,"from":12`))
		r = p.want("subscribe")
		p.text(`{"type":"error","id":%q,"code":"unknown_token","message":"none","retry_ms":70}`, r.ID)
		r = p.want("unsubscribe")
		p.text(`{"type":"unsubscribed","id":%q,"sub":7}`, r.ID)
		if op, data, _ := p.read(); op != opClose || string(data) != "\x03\xe8" {
			t.Errorf("%d %q is no close", op, data)
		}
	}, func(t *testing.T, s *server) {
		c := connect(t, s)
		if ev := next(t, c, KindConnected); ev.Hello.Epoch != "k3" || ev.Hello.Limits.Tokens != 50000 {
			t.Errorf("%+v", ev.Hello)
		}
		sub := subscribe(t, c)
		if ev := next(t, c, KindSubscribed); ev.Sub != sub || ev.Channel.Number() != 12 || sub.Ack().Tokens != 2 {
			t.Errorf("%+v", ev)
		}
		ev := next(t, c, KindSnapshot)
		if len(ev.Data.Changes) != 2 || ev.Row(ev.Data.Changes[1]).Symbol() != "LTC" || !ev.Channel.Complete() {
			t.Errorf("%+v", ev)
		}
		ev = next(t, c, KindDelta)
		row, _ := ev.Channel.Row(1)
		if row.Value(market.FieldPrice).String() != "64011" || len(ev.Data.Removed) != 1 || ev.Channel.Len() != 1 {
			t.Errorf("%+v", ev)
		}
		if ev := next(t, c, KindChannelBeat); ev.Channel.Position() != 829 {
			t.Errorf("%+v", ev)
		}
		next(t, c, KindHeartbeat)
		items, err := c.List(t.Context())
		if err != nil || len(items) != 1 || items[0].Channel != 12 {
			t.Errorf("%+v %v", items, err)
		}
		if at, err := c.Ping(t.Context()); err != nil || at.UnixMilli() != 1763661600123 {
			t.Errorf("%v %v", at, err)
		}
		if err := c.Update(t.Context(), sub, Update{Rate: "0.5"}); err != nil {
			t.Error(err)
		}
		_, err = c.Subscribe(t.Context(), Subscription{Tokens: []market.ID{9}})
		if fault, ok := errors.AsType[*ServerError](err); !ok || fault.Code != wire.UnknownToken || fault.Retry != 70*time.Millisecond {
			t.Error(err)
		}
		next(t, c, KindSubscriptions)
		next(t, c, KindPong)
		if ev := next(t, c, KindSubscribed); ev.Channel.Number() != 15 || ev.Channel.Position() != 829 || sub.Channel() != ev.Channel {
			t.Errorf("%+v", ev)
		}
		next(t, c, KindError)
		if err := c.Unsubscribe(t.Context(), sub); err != nil {
			t.Error(err)
		}
		next(t, c, KindUnsubscribed)
		c.Close()
		if _, err := c.Next(t.Context()); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

// TestVerify finds a row that differs and asks for it.
func TestVerify(t *testing.T) {
	script(t, func(s *server) {
		p := s.accept()
		r := p.want("subscribe")
		p.say(ackText(r.ID, 7, 12, false, ""))
		p.text(snapText, 12)
		r = p.want("verify")
		p.text(`{"type":"checksums","id":%q,"ch":12,"seq":812,"items":[[1,"00000000"],[2,"00000000"]]}`, r.ID)
		if r = p.want("verify"); !r.Heal || len(r.Tokens) != 2 {
			t.Error(r.raw)
		}
		p.text(`{"type":"delta","ch":12,"seq":812,"prev":812,"source":"market","rows":[{"id":1,"symbol":"BTC","name":"Bitcoin","slug":"bitcoin","price":1},{"id":2,"symbol":"LTC","name":"Litecoin","slug":"litecoin","price":2}],"removed":[]}`)
		p.text(`{"type":"checksums","id":%q,"ch":12,"seq":812,"items":[[1,"%08x"]]}`, r.ID, Row{ch: &Channel{
			layout: NewLayout(market.FieldPrice.Bit(), false), vals: []market.Decimal{{Mant: 1}},
		}}.Checksum())
		p.nc.Close()
	}, func(t *testing.T, s *server) {
		c := connect(t, s)
		next(t, c, KindConnected)
		sub := subscribe(t, c)
		next(t, c, KindSubscribed)
		next(t, c, KindSnapshot)
		if err := c.Verify(t.Context(), sub, []market.ID{1, 2}, true); err != nil {
			t.Error(err)
		}
		if ev := next(t, c, KindChecksums); !ev.Check.Healing || len(ev.Check.Differ) != 2 || ev.Sub != sub {
			t.Errorf("%+v", ev.Check)
		}
		next(t, c, KindDelta)
		if ev := next(t, c, KindChecksums); len(ev.Check.Differ) != 0 || !ev.Check.Compared {
			t.Errorf("%+v", ev.Check)
		}
		if _, err := c.Next(t.Context()); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
	})
}

// TestResume comes back after a drain and goes on where it was.
func TestResume(t *testing.T) {
	var closed time.Time
	script(t, func(s *server) {
		p := s.accept()
		r := p.want("subscribe")
		p.say(ackText(r.ID, 7, 12, false, ""))
		p.text(snapText, 12)
		p.text(deltaText, 12, 813, 812, 5)
		p.say(strings.TrimSuffix(fmt.Sprintf(deltaText, 12, 820, 813, 6), `,"removed":[]}`) + `,"more":true}`)
		p.text(`{"type":"drain","deadline_ms":5000,"retry_ms":3120}`)
		closed = time.Now()
		p.close(wire.CloseRestart)
		p = s.accept()
		if wait := time.Since(closed); wait != 3120*time.Millisecond {
			t.Errorf("came back after %v", wait)
		}
		if r = p.want("subscribe"); r.Since == nil || *r.Since != (Since{"k3", 813}) {
			t.Error(r.raw)
		}
		p.say(ackText(r.ID, 1, 3, true, ""))
		p.text(deltaText, 3, 822, 813, 7)
		p.close(wire.CloseSlow)
		p = s.accept()
		if r = p.want("subscribe"); r.Since == nil || r.Since.Seq != 822 {
			t.Error(r.raw)
		}
		p.say(ackText(r.ID, 1, 3, false, ""))
		p.text(snapText, 3)
		p.text(`nonsense`)
		p.nc.Close()
		p = s.accept()
		if r = p.want("subscribe"); r.Since != nil {
			t.Errorf("resumes rows that are in doubt: %s", r.raw)
		}
		p.say(ackText(r.ID, 1, 3, false, ""))
		p.text(snapText, 3)
		p.text(deltaText, 3, 822, 820, 7) // a gap
		p.nc.Close()
		p = s.accept()
		if r = p.want("subscribe"); r.Since == nil || r.Since.Seq != 812 {
			t.Errorf("does not resume after a gap: %s", r.raw)
		}
		p.close(wire.CloseErrors)
	}, func(t *testing.T, s *server) {
		c := connect(t, s, reconnecting)
		next(t, c, KindConnected)
		sub := subscribe(t, c)
		next(t, c, KindSubscribed)
		next(t, c, KindSnapshot)
		next(t, c, KindDelta)
		if ev := next(t, c, KindDelta); ev.Channel.Complete() {
			t.Error("a part is not the whole")
		}
		next(t, c, KindDrain)
		ev := next(t, c, KindDisconnected)
		if e, ok := errors.AsType[*CloseError](ev.Err); !ok || e.Code != wire.CloseRestart || ev.Wait != 3120*time.Millisecond {
			t.Errorf("%+v", ev)
		}
		next(t, c, KindConnected)
		if ev := next(t, c, KindSubscribed); !ev.Ack.Recovered || ev.Sub != sub || ev.Channel.Len() != 2 || ev.Channel.Position() != 813 {
			t.Errorf("%+v", ev)
		}
		if ev := next(t, c, KindDelta); ev.Row(ev.Data.Changes[0]).Value(market.FieldPrice).Mant != 7 {
			t.Errorf("%+v", ev)
		}
		next(t, c, KindDisconnected)
		next(t, c, KindConnected)
		if ev := next(t, c, KindSubscribed); ev.Ack.Recovered {
			t.Errorf("%+v", ev)
		}
		next(t, c, KindSnapshot)
		if ev := next(t, c, KindDisconnected); !has(ev.Err.Error(), "byte 0") {
			t.Errorf("%+v", ev)
		}
		next(t, c, KindConnected)
		next(t, c, KindSubscribed)
		next(t, c, KindSnapshot)
		ev = next(t, c, KindDisconnected)
		if gap, ok := errors.AsType[*GapError](ev.Err); !ok || gap.Prev != 820 || ev.Wait < time.Second {
			t.Errorf("%+v", ev)
		}
		next(t, c, KindConnected)
		_, err := c.Next(t.Context())
		if e, ok := errors.AsType[*CloseError](err); !ok || e.Code != wire.CloseErrors {
			t.Error(err)
		}
	})
}

// TestSilence gives a connection up on which nothing comes.
func TestSilence(t *testing.T) {
	script(t, func(s *server) {
		p := s.accept()
		time.Sleep(29 * time.Second) //nolint:forbidigo // in a bubble
		p.text(`{"type":"heartbeat","server_time":1}`)
		p.read()
	}, func(t *testing.T, s *server) {
		c := connect(t, s)
		next(t, c, KindConnected)
		next(t, c, KindHeartbeat)
		began := time.Now()
		if _, err := c.Next(t.Context()); !errors.Is(err, ErrSilent) {
			t.Error(err)
		}
		if d := time.Since(began); d < 30*time.Second || d > 32*time.Second {
			t.Errorf("given up after %v", d)
		}
	})
}

// TestClosing is what each close code makes of a client that reconnects.
func TestClosing(t *testing.T) {
	for _, row := range append(wire.CloseCodes(), wire.CloseSpec{Code: 4321, Reconnect: true}, wire.CloseSpec{Code: 4777}) {
		t.Run(fmt.Sprint(row.Code), func(t *testing.T) {
			script(t, func(s *server) {
				s.accept().close(row.Code)
				if row.Reconnect {
					s.accept().close(4999)
				}
			}, func(t *testing.T, s *server) {
				c := connect(t, s, reconnecting)
				next(t, c, KindConnected)
				if row.Reconnect {
					next(t, c, KindDisconnected)
					next(t, c, KindConnected)
				}
				_, err := c.Next(t.Context())
				if _, ok := errors.AsType[*CloseError](err); !ok {
					t.Error(err)
				}
			})
		})
	}
}

// TestRefusals is answers to the handshake that are no upgrade.
func TestRefusals(t *testing.T) {
	f := func(answer string, status int, temporary bool, retry time.Duration) {
		t.Helper()
		script(t, func(s *server) { s.refuse = answer; s.accept() }, func(t *testing.T, s *server) {
			_, err := Dial(t.Context(), s.options())
			e, ok := errors.AsType[*HandshakeError](err)
			if !ok || e.Status != status || e.Temporary() != temporary || e.Retry != retry {
				t.Errorf("%v (%+v)", err, e)
			}
		})
	}
	f("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno", 503, true, 7*time.Second)
	f("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", 400, false, 0)
	f("HTTP/1.1 101 Switching Protocols\r\n\r\n", 101, false, 0)
	f("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n", 101, false, 0)

	script(t, func(s *server) { s.refuse = "garbage\r\n"; s.accept() }, func(t *testing.T, s *server) {
		if _, err := Dial(t.Context(), s.options()); err == nil {
			t.Error("no error")
		}
	})
	for _, url := range []string{"http://x", "ws://", "://"} {
		if _, err := Dial(t.Context(), Options{URL: url}); err == nil {
			t.Errorf("%s: no error", url)
		}
	}
	// A server that says nothing, and one that is full for a while.
	script(t, func(s *server) { (<-s.dials).Read(make([]byte, 10)) }, func(t *testing.T, s *server) {
		if _, err := Dial(t.Context(), s.options()); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
	script(t, func(s *server) {
		s.accept().close(wire.CloseRestart)
		s.refuse = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n"
		s.accept()
		s.refuse = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
		s.accept()
	}, func(t *testing.T, s *server) {
		c := connect(t, s, reconnecting)
		next(t, c, KindConnected)
		next(t, c, KindDisconnected)
		if ev := next(t, c, KindDisconnected); ev.Wait < time.Minute {
			t.Errorf("comes back after %v", ev.Wait)
		}
		if _, err := c.Next(t.Context()); !has(err.Error(), "403") {
			t.Error(err)
		}
	})
}

// TestBrokenFrames is what a server must not send.
func TestBrokenFrames(t *testing.T) {
	f := func(want string, send func(p *peer)) {
		t.Helper()
		script(t, func(s *server) {
			p := s.accept()
			go io.Copy(io.Discard, p.br)
			send(p)
			p.nc.Close()
		}, func(t *testing.T, s *server) {
			c := connect(t, s, func(o *Options) { o.Limits.Message = 1000 })
			next(t, c, KindConnected)
			if _, err := c.Next(t.Context()); err == nil || !has(err.Error(), want) {
				t.Errorf("%v, want %s", err, want)
			}
		})
	}
	f("must not send", func(p *peer) { p.nc.Write([]byte{0x81, 0x85, 1, 2, 3, 4, 5}) }) // masked
	f("must not send", func(p *peer) { p.frame(0xC1, []byte("{}")) })                   // packed
	f("must not send", func(p *peer) { p.frame(0x83, []byte("{}")) })                   // op 3
	f("must not send", func(p *peer) { p.frame(opPing, nil) })                          // a ping in parts
	f("mixed up", func(p *peer) { p.frame(0x80|opContinue, []byte("{}")) })
	f("mixed up", func(p *peer) { p.frame(opText, []byte("{}")); p.frame(opText, []byte("{}")) })
	f("above 1000", func(p *peer) { p.nc.Write([]byte{0x82, 127, 0x7f, 0, 0, 0, 0, 0, 0, 0}) })
	f("above 1000", func(p *peer) { p.frame(opText, make([]byte, 600)); p.frame(opContinue, make([]byte, 600)) })
	f("broken close", func(p *peer) { p.frame(0x88, []byte{3}) })
	f("cut", func(p *peer) { p.nc.Write([]byte{0x81}) })
	f("cut", func(p *peer) { p.nc.Write([]byte{0x81, 100, 1, 2}) })
	f("without its head", func(p *peer) { p.frame(0x80|opBinary, []byte{1}) })
	f("first member", func(p *peer) { p.text(`{"a":1}`) })
}

// TestDeflate reads messages that are packed, and not those that grow too long.
func TestDeflate(t *testing.T) {
	pack := func(text string) []byte {
		var b bytes.Buffer
		w, _ := flate.NewWriter(&b, 6)
		io.WriteString(w, text)
		w.Flush()
		return bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xff, 0xff})
	}
	script(t, func(s *server) {
		s.deflate = true
		p := s.accept()
		if !has(p.head.Get("Sec-WebSocket-Extensions"), "permessage-deflate") {
			t.Error(p.head)
		}
		for range 2 {
			p.frame(0xC1, pack(`{"type":"heartbeat","server_time":1763661615123}`))
		}
		packed := pack(`{"type":"pong","server_time":1}`)
		p.frame(0x41, packed[:3])
		p.frame(0x80, packed[3:])
		p.text(`{"type":"pong","server_time":2}`)
		p.frame(0xC1, pack(strings.Repeat(" ", 1<<21)))
		p.nc.Close()
	}, func(t *testing.T, s *server) {
		c := connect(t, s, func(o *Options) { o.Compression = true })
		next(t, c, KindConnected)
		next(t, c, KindHeartbeat)
		next(t, c, KindHeartbeat)
		for at := range market.Time(2) {
			if ev := next(t, c, KindPong); ev.Time != at+1 {
				t.Errorf("%+v", ev)
			}
		}
		if _, err := c.Next(t.Context()); err == nil || !has(err.Error(), "above 1048576") {
			t.Error(err)
		}
	})
}

// TestBacklog stops reading when nobody calls Next, and goes on.
func TestBacklog(t *testing.T) {
	const messages = 2000
	var sent atomic.Int64
	script(t, func(s *server) {
		p := s.accept()
		r := p.want("subscribe")
		p.say(ackText(r.ID, 7, 12, false, ""))
		p.text(snapText, 12)
		go io.Copy(io.Discard, p.br)
		for i := range messages {
			p.nc.SetWriteDeadline(time.Now().Add(time.Hour))
			p.nc.Write(fmt.Appendf([]byte{0x81, 126, 0, byte(len(fmt.Sprintf(deltaText, 12, 813+i, 812+i, i)))}, deltaText, 12, 813+i, 812+i, i))
			sent.Add(1)
		}
	}, func(t *testing.T, s *server) {
		c := connect(t, s, func(o *Options) { o.Queue = 4096 })
		subscribe(t, c)
		synctest.Wait()
		if n := sent.Load(); n < 5 || n > 50 {
			t.Errorf("%d messages wait", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Ping(ctx); !errors.Is(err, ErrBacklog) {
			t.Errorf("ping: %v", err)
		}
		if n := sent.Load(); n > 400 {
			t.Errorf("%d messages wait", n)
		}
		next(t, c, KindConnected)
		next(t, c, KindSubscribed)
		next(t, c, KindSnapshot)
		for i := range messages {
			if ev := next(t, c, KindDelta); ev.Channel.Position() != uint64(813+i) {
				t.Fatal(ev.Channel.Position())
			}
		}
	})
}

// TestLateAnswer ends a subscription that nobody waited for.
func TestLateAnswer(t *testing.T) {
	script(t, func(s *server) {
		p := s.accept()
		r := p.want("subscribe")
		time.Sleep(time.Minute / 4) //nolint:forbidigo // in a bubble
		p.say(ackText(r.ID, 7, 12, false, ""))
		if r = p.want("unsubscribe"); r.Sub != 7 {
			t.Error(r.raw)
		}
		p.text(`{"type":"unsubscribed","id":%q,"sub":7}`, r.ID)
		p.close(wire.CloseGoingAway)
		p = s.accept()
		p.text(`{"type":"pong","server_time":2}`)
		p.read()
	}, func(t *testing.T, s *server) {
		c := connect(t, s, reconnecting)
		next(t, c, KindConnected)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Subscribe(ctx, Subscription{All: true}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		next(t, c, KindSubscribed)
		next(t, c, KindUnsubscribed)
		next(t, c, KindDisconnected)
		if err := c.Verify(t.Context(), &Sub{c: c}, []market.ID{1}, false); !errors.Is(err, ErrOffline) {
			t.Error(err)
		}
		next(t, c, KindConnected)
		next(t, c, KindPong) // and no subscribe
		c.Close()
	})
}

// TestPace stays within the server's messages per second.
func TestPace(t *testing.T) {
	script(t, func(s *server) {
		p := s.accept()
		for range 200 {
			r := p.want("ping")
			p.text(`{"type":"pong","id":%q,"server_time":1}`, r.ID)
		}
		p.nc.Close()
	}, func(t *testing.T, s *server) {
		c := connect(t, s)
		began := time.Now()
		for range 200 {
			if _, err := c.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(began); d < 5*time.Second || d > 8*time.Second {
			t.Errorf("200 messages in %v", d)
		}
	})
}

func TestBackoff(t *testing.T) {
	b := Backoff{}.withDefaults()
	for n := range 40 {
		most := min(500*time.Millisecond<<min(n, 10), 30*time.Second)
		for range 20 {
			if w, ok := b.again(io.ErrUnexpectedEOF, -1, n); !ok || w < cutWait || w > cutWait+most {
				t.Fatalf("wait %v before attempt %d", w, n)
			}
			if w, ok := b.again(&CloseError{Code: wire.CloseOverloaded}, 5*time.Second, n); !ok || w > most {
				t.Fatalf("wait %v before attempt %d", w, n)
			}
		}
	}
}
