//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/velocimeter/velocimeter/bench/validator/ledger"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/client"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// watcher is a client of the stream that comes back by itself and tells the book
// what it saw.
type watcher struct {
	name     string
	book     *ledger.Book
	server   *server
	encoding wire.Encoding
	ask      client.Subscription
	exact    bool          // every digit and no deadband: rows are the server's
	cut      time.Duration // its connection is cut about that often; 0 for never
	rng      *rand.Rand

	mu   sync.Mutex
	conn net.Conn
}

// watchers are the clients of a run: both encodings, whole market and
// selections, every shape, slow rates, compact digits and a deadband.
func watchers(book *ledger.Book, s *server, known []market.ID, seed uint64) []*watcher {
	rng := rand.New(rand.NewPCG(seed, 5))
	ids := slices.Clone(known)
	rng.Shuffle(len(ids), func(i, k int) { ids[i], ids[k] = ids[k], ids[i] })
	ids = ids[:max(1, len(ids)/8)]
	all := []*watcher{
		{name: "binary, whole market", encoding: wire.EncodingBinary, ask: client.Subscription{All: true, View: "full"}, exact: true},
		{name: "JSON objects, whole market", ask: client.Subscription{All: true, View: "full", Shape: "object"}, exact: true},
		{name: "JSON arrays of strings, selection", ask: client.Subscription{Tokens: ids, View: "full", Shape: "array", Numbers: "string"}, exact: true, cut: 4 * time.Second},
		{name: "binary, selection", encoding: wire.EncodingBinary, ask: client.Subscription{Tokens: ids, View: "full"}, exact: true, cut: 3 * time.Second},
		{name: "binary, every two seconds", encoding: wire.EncodingBinary, ask: client.Subscription{All: true, View: "full", Rate: "0.5"}, exact: true},
		{name: "JSON, every tick kept", ask: client.Subscription{All: true, View: "velocity", Mode: "every"}, exact: true, cut: 7 * time.Second},
		{name: "binary, compact digits", encoding: wire.EncodingBinary, ask: client.Subscription{All: true, View: "quote", Digits: "compact"}, cut: 5 * time.Second},
		{name: "binary, deadband", encoding: wire.EncodingBinary, ask: client.Subscription{All: true, View: "quote", Deadband: 10}},
	}
	for i, w := range all {
		w.book, w.server, w.rng = book, s, rand.New(rand.NewPCG(seed, 100+uint64(i)))
	}
	return all
}

// run follows the stream until ctx ends.
func (w *watcher) run(ctx context.Context, header http.Header) {
	order := w.book.Follow(w.name)
	for ctx.Err() == nil {
		c, err := client.Dial(ctx, client.Options{
			URL: "ws://" + w.server.public + "/api/v1/stream", Encoding: w.encoding, Header: header, Dial: w.dial, Reconnect: true,
			Backoff: client.Backoff{Min: 50 * time.Millisecond, Max: time.Second},
		})
		if err != nil {
			pause(ctx, 100*time.Millisecond)
			continue
		}
		w.follow(ctx, c, order)
		c.Close()
	}
}

func (w *watcher) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, network, addr)
	w.mu.Lock()
	w.conn = nc
	w.mu.Unlock()
	return nc, err //nolint:wrapcheck // the client says what it was doing
}

// disturb cuts the connection now and then, and asks for checksums.
func (w *watcher) disturb(ctx context.Context, c *client.Client, sub *client.Sub) {
	for ctx.Err() == nil {
		pause(ctx, time.Second)
		if w.exact && ctx.Err() == nil {
			_ = c.Verify(ctx, sub, nil, false)
		}
		if w.cut > 0 && w.rng.Float64() < time.Second.Seconds()/w.cut.Seconds() {
			w.mu.Lock()
			if w.conn != nil {
				_ = w.conn.Close()
			}
			w.mu.Unlock()
		}
	}
}

func (w *watcher) follow(ctx context.Context, c *client.Client, order *ledger.Order) {
	sub, err := c.Subscribe(ctx, w.ask)
	if err != nil {
		pause(ctx, 50*time.Millisecond)
		return
	}
	around, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { w.disturb(around, c, sub) })
	defer wg.Wait()
	defer cancel()
	parts := false // of one message are under way
	for {
		ev, err := c.Next(ctx)
		if err != nil {
			w.book.Check(ledger.Ordered, ctx.Err() != nil || !protocol(err), "%s: %v", w.name, err)
			return
		}
		w.apply(&ev, order, &parts)
	}
}

func protocol(err error) bool {
	_, broken := asError[*client.ProtocolError](err)
	_, gap := asError[*client.GapError](err)
	return broken || gap
}

// apply tells the book what an event says.
func (w *watcher) apply(ev *client.Event, order *ledger.Order, parts *bool) {
	switch ev.Kind {
	case client.KindConnected:
		order.Connected()
		*parts = false
		w.book.Epoch(w.name, ev.Hello.Epoch)
	case client.KindDisconnected:
		w.book.Check(ledger.Ordered, !protocol(ev.Err), "%s: %v", w.name, ev.Err)
	case client.KindSnapshot:
		if !*parts {
			order.Snapshot(ev.Channel.Number(), ev.Data.Seq)
		}
		*parts = ev.Data.More
	case client.KindDelta:
		if !*parts {
			order.Delta(ev.Channel.Number(), ev.Data.Seq, ev.Data.Prev)
		}
		if *parts = ev.Data.More; !ev.Data.More {
			w.tell(ev.Channel)
		}
	case client.KindChannelBeat:
		order.Beat(ev.Channel.Number(), ev.Channel.Position())
		w.tell(ev.Channel)
	case client.KindChecksums:
		if ev.Check.Compared {
			w.book.Check(ledger.Replica, len(ev.Check.Differ) == 0, "%s: the server's checksums at seq %d differ for tokens %v", w.name, ev.Check.Seq, ev.Check.Differ)
		}
	default: // answers, and what is about the connection
	}
}

// tell notes every row of a channel: after a delta or a heartbeat they are the
// market's at the position.
func (w *watcher) tell(c *client.Channel) {
	if !w.exact || !c.Complete() {
		return
	}
	fields := c.Layout().Fields() & market.NumericFields
	for r := range c.Rows() {
		var row ledger.Row
		for f := range fields.Fields() {
			row.Set(f, r.Value(f))
		}
		w.book.Shown(w.name, c.Position(), r.ID(), &row)
	}
}

// crowd are clients that do no good: slow ones that never read, half-open ones
// that never ask, and ones that send anything.
func crowd(ctx context.Context, addr string, rng *rand.Rand, n int) (leave func()) {
	var conns []net.Conn
	for i := range n {
		nc, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
		if err != nil {
			continue
		}
		conns = append(conns, nc)
		switch i % 4 {
		case 0: // reads nothing of the whole market
			if tc, ok := nc.(*net.TCPConn); ok {
				_ = tc.SetReadBuffer(4096)
			}
			_, _ = nc.Write(upgrade(addr))
			_, _ = nc.Write(masked(`{"op":"subscribe","all":true,"view":"full","mode":"every"}`))
		case 1: // half of a head
			_, _ = nc.Write([]byte("GET /api/v1/tokens HTTP/1.1\r\nHost: "))
		case 2: // upgrades and says nothing
			_, _ = nc.Write(upgrade(addr))
		default: // anything
			p := make([]byte, 1+rng.IntN(3000))
			for k := range p {
				p[k] = byte(rng.Uint32())
			}
			_, _ = nc.Write(p)
		}
	}
	return func() {
		for i, nc := range conns {
			if tc, ok := nc.(*net.TCPConn); ok && i%8 < 4 {
				_ = tc.SetLinger(0) // a reset
			}
			_ = nc.Close()
		}
	}
}

func upgrade(host string) []byte {
	return fmt.Appendf(nil, "GET /api/v1/stream HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: velocimeter.v1.json\r\n\r\n", host)
}

// masked is a text frame of less than 126 bytes, with a mask of zeros.
func masked(text string) []byte {
	return append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...)
}
