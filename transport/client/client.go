package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/velocimeter/velocimeter/transport/wire"
)

// Options say where to connect and how. Only URL must be set.
type Options struct {
	URL         string        // ws:// or wss://, with the path /api/v1/stream
	Encoding    wire.Encoding // JSON, or binary: much shorter, and faster to read
	Header      http.Header   // of the handshake
	Compression bool          // offer permessage-deflate; JSON only
	// Dial opens the connection below; the default is a net.Dialer.
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	TLS    *tls.Config // for wss; the default checks the host's name
	Limits Limits
	// Queue is how many bytes may wait for Next before the client stops reading;
	// the server then skips ticks. Default 4 MiB, eight times that while an
	// answer is waited for.
	Queue     int
	Reconnect bool // come back when the connection ends, and resume every subscription
	Backoff   Backoff
}

func (o Options) withDefaults() Options {
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Queue <= 0 {
		o.Queue = 4 << 20
	}
	o.Limits = o.Limits.withDefaults()
	o.Backoff = o.Backoff.withDefaults()
	return o
}

// Client is a connection to the stream, and those that follow it. One goroutine
// calls Next and reads channels and rows; everything else may be called by any,
// also by that one.
type Client struct {
	o      Options
	ctx    context.Context // of the client's life
	cancel context.CancelFunc
	wg     sync.WaitGroup
	q      *queue
	waits  atomic.Int64 // calls that wait for an answer

	mu      sync.Mutex
	conn    *conn // nil between connections
	lastID  uint64
	pending map[string]*call
	live    map[uint64]*Sub // by number on this connection
	subs    []*Sub

	// Of the goroutine that calls Next.
	dec     *Decoder
	buf     []byte
	skip    *conn // whose messages are no longer read
	skipErr error
	doubt   bool // the rows may be wrong: resume without since
}

// Dial connects and waits for the server's hello. ctx bounds that alone.
func Dial(ctx context.Context, o Options) (*Client, error) {
	c := &Client{o: o.withDefaults(), pending: make(map[string]*call), live: make(map[uint64]*Sub)}
	c.q = newQueue(c.o.Queue)
	c.dec = NewDecoder(c.o.Limits)
	cn, hello, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	c.conn = cn
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.wg.Go(func() { c.run(cn, hello) })
	return c, nil
}

// Close says goodbye, ends everything and waits for it. Next returns ErrClosed
// after the events that are waiting.
func (c *Client) Close() { c.stop(ErrClosed); c.wg.Wait() }

func (c *Client) stop(err error) {
	c.q.end(err)
	c.cancel()
	c.mu.Lock()
	cn := c.conn
	c.mu.Unlock()
	if cn != nil {
		cn.close(wire.CloseNormal, err)
	}
}

// connect dials and reads hello.
func (c *Client) connect(ctx context.Context) (*conn, *control, error) {
	cn, err := dial(ctx, &c.o)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { cn.close(wire.CloseNormal, context.Cause(ctx)) })
	defer stop()
	msg, binary, err := cn.read(nil)
	if err != nil {
		cn.close(wire.CloseNormal, err)
		return nil, nil, err
	}
	s := scanner{b: msg}
	if binary || string(s.messageType()) != "hello" {
		err := &ProtocolError{What: "the first message is not hello"}
		cn.close(wire.CloseProtocol, err)
		return nil, nil, err
	}
	hello, err := parseControl("hello", msg)
	if err != nil {
		cn.close(wire.CloseProtocol, err)
		return nil, nil, err
	}
	if d := 2 * millis(hello.hello.HeartbeatMS); d > 0 {
		cn.silence, cn.armed = d, time.Time{}
	}
	cn.pace.limit(hello.hello.Limits.MessagesPerSecond)
	cn.largest = hello.hello.Limits.MessageBytes
	return cn, &hello, nil
}

// longLife is how long a connection lives that sets the backoff to its beginning.
const longLife = 30 * time.Second

// run reads one connection after the other.
func (c *Client) run(cn *conn, hello *control) {
	for n := 0; cn != nil; {
		began := time.Now()
		drain, err := c.serve(cn, hello)
		if time.Since(began) >= longLife {
			n = 0
		}
		cn, hello = c.revive(err, drain, &n)
	}
}

// revive comes back after the connection ended with err, or ends the client.
func (c *Client) revive(err error, drain time.Duration, n *int) (*conn, *control) {
	for {
		wait, ok := c.o.Backoff.again(err, drain, *n)
		if *n++; !ok || !c.o.Reconnect || c.ctx.Err() != nil {
			c.q.end(err)
			return nil, nil
		}
		ev := &Event{Kind: KindDisconnected, Err: err, Wait: wait}
		if c.push(item{end: ev}) != nil || sleep(c.ctx, wait) != nil {
			return nil, nil
		}
		cn, hello, failed := c.connect(c.ctx)
		if failed == nil {
			c.mu.Lock()
			c.conn = cn
			c.mu.Unlock()
			if c.ctx.Err() != nil { // stop may have looked before
				cn.close(wire.CloseNormal, ErrClosed)
			}
			return cn, hello
		}
		err, drain = failed, -1
	}
}

// serve reads a connection to its end. drain is negative where none was announced.
func (c *Client) serve(cn *conn, hello *control) (drain time.Duration, err error) {
	drain = -1
	err = c.push(item{conn: cn, ctl: hello})
	for err == nil {
		var it item
		if it, err = c.receive(cn); err != nil {
			break
		}
		if it.ctl != nil && it.ctl.kind == KindDrain {
			drain = it.ctl.wait
		}
		err = c.push(it)
	}
	cn.close(wire.CloseNormal, err)
	c.mu.Lock()
	c.conn = nil
	clear(c.live)
	for id, call := range c.pending {
		delete(c.pending, id)
		call.finish(nil, err)
	}
	c.mu.Unlock()
	return drain, err
}

// receive reads a message; answers go to those who wait for them at once.
func (c *Client) receive(cn *conn) (item, error) {
	msg, binary, err := cn.read(c.q.buffer())
	if err != nil {
		return item{}, err
	}
	it := item{conn: cn, msg: msg, binary: binary}
	if binary {
		return it, nil
	}
	s := scanner{b: msg}
	switch typ := string(s.messageType()); typ {
	case "snapshot", "delta", "heartbeat", "":
	default:
		ctl, err := parseControl(typ, msg)
		if err != nil {
			return item{}, err
		}
		it.ctl, it.msg = &ctl, nil
		c.q.recycle(msg)
		it.call = c.answered(cn, &ctl)
	}
	return it, nil
}

func (c *Client) push(it item) error {
	waiting := func() bool { return c.waits.Load() > 0 }
	err := c.q.push(c.ctx, it, waiting)
	for errors.Is(err, ErrBacklog) {
		c.mu.Lock()
		for _, call := range c.pending {
			call.finish(nil, ErrBacklog)
		}
		c.mu.Unlock()
		err = c.q.push(c.ctx, it, waiting)
	}
	return err
}

// Next returns the next event. ctx bounds the wait alone. Any other error is how
// the client ended: with Reconnect only what makes no sense to try again.
func (c *Client) Next(ctx context.Context) (Event, error) {
	c.q.recycle(c.buf)
	c.buf = nil
	for {
		it, err := c.q.pop(ctx)
		if err != nil {
			return Event{}, err
		}
		if it.end != nil {
			if c.skip != nil {
				it.end.Err, c.skip = c.skipErr, nil
			}
			return *it.end, nil
		}
		if it.conn == c.skip {
			c.q.recycle(it.msg)
			continue
		}
		ev, err := c.apply(&it)
		if err == nil {
			c.buf = it.msg
			return ev, nil
		}
		if !c.o.Reconnect || errors.Is(err, ErrLimit) {
			c.stop(err)
			return Event{}, err
		}
		_, gap := errors.AsType[*GapError](err)
		c.doubt = c.doubt || !gap
		c.skip, c.skipErr = it.conn, err
		it.conn.close(wire.CloseProtocol, err)
	}
}

// apply does what a message says.
func (c *Client) apply(it *item) (Event, error) {
	if it.ctl == nil {
		return c.dec.Apply(it.msg, it.binary)
	}
	if it.ctl.kind == KindConnected {
		c.restart(it.conn)
	}
	call := it.call
	if call != nil && call.from != nil {
		c.dec.Resume(it.ctl.id, call.from)
	}
	ev, err := c.dec.applyControl(it.ctl)
	if err != nil || call == nil {
		return ev, err
	}
	ev.Sub = call.sub
	switch {
	case ev.Kind == KindSubscribed || ev.Kind == KindEffective:
		call.sub.channel = ev.Channel
	case ev.Kind == KindChecksums && call.heal && len(ev.Check.Differ) > 0:
		ev.Check.Healing = true
		c.heal(it.conn, call.sub, ev.Check.Differ)
	}
	return ev, nil
}

// newID returns the id of the next request; the caller holds mu.
func (c *Client) newID() string {
	c.lastID++
	return strconv.FormatUint(c.lastID, 10)
}
