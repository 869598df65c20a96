package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// ErrOffline says that there is no connection just now.
var ErrOffline = errors.New("not connected")

// maxVerify is how many tokens one verify may name.
const maxVerify = 1000

// Sub is a subscription of a client. It outlives connections.
type Sub struct {
	c       *Client
	channel *Channel // of the goroutine that calls Next

	// Guarded by the client's mu.
	spec   Subscription
	ack    Ack
	conn   *conn // that knows it
	number uint64
	closed bool
}

// Ack returns the newest acknowledgement.
func (s *Sub) Ack() Ack {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.ack
}

// Channel returns the channel that the subscription's data comes on, as of the
// last event: nil before KindSubscribed. It is for the goroutine that calls Next.
func (s *Sub) Channel() *Channel { return s.channel }

// call is a request whose answer has not come.
type call struct {
	sub    *Sub
	update *Update
	from   *Channel // that a subscription goes on from
	heal   bool
	fresh  bool        // it subscribes for a caller
	quit   bool        // who called does not wait any more
	done   chan answer // nil where nobody waits
}

type answer struct {
	ctl *control
	err error
}

// finish hands the answer over; the first one counts.
func (k *call) finish(ctl *control, err error) {
	select {
	case k.done <- answer{ctl, err}:
	default:
	}
}

// post sends a request without waiting for its answer.
func (c *Client) post(ctx context.Context, cn *conn, k *call, text func(id string) []byte) error {
	c.mu.Lock()
	if cn == nil {
		cn = c.conn
	}
	if cn == nil || cn != c.conn {
		c.mu.Unlock()
		return ErrOffline
	}
	id := c.newID()
	c.pending[id] = k
	c.mu.Unlock()
	msg := text(id)
	err := cn.pace.wait(ctx)
	if cn.largest > 0 && len(msg) > cn.largest {
		err = fmt.Errorf("cannot send %d bytes to a server that takes %d: %w", len(msg), cn.largest, ErrLimit)
	}
	if err == nil {
		err = cn.write(opText, msg)
	}
	if err != nil {
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
	}
	return err
}

// ask sends a request and waits for its answer.
func (c *Client) ask(ctx context.Context, k *call, text func(id string) []byte) (*control, error) {
	k.done = make(chan answer, 1)
	c.waits.Add(1)
	defer c.waits.Add(-1)
	c.q.wake()
	if err := c.post(ctx, nil, k, text); err != nil {
		return nil, err
	}
	select {
	case a := <-k.done:
		if a.err == nil && a.ctl.fault != nil {
			a.err = a.ctl.fault
		}
		if a.err != nil {
			c.abandon(k)
		}
		return a.ctl, a.err
	case <-ctx.Done():
		c.abandon(k)
		return nil, ctx.Err()
	case <-c.ctx.Done():
		return nil, ErrClosed
	}
}

func (c *Client) abandon(k *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k.quit = true
	if cn := c.conn; k.fresh && k.sub.number != 0 && cn != nil && cn == k.sub.conn { // the answer came all the same
		c.subs = slices.DeleteFunc(c.subs, func(s *Sub) bool { return s == k.sub })
		c.wg.Go(func() { c.unsubscribe(c.ctx, cn, k.sub, &call{sub: k.sub}) })
	}
}

// answered takes note of a message in the reader, so that those who wait need
// no call of Next. It returns the request that is answered, if any.
func (c *Client) answered(cn *conn, m *control) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.kind == KindEffective {
		sub := c.live[m.ack.Sub]
		if sub == nil {
			return nil
		}
		sub.ack.Channel, sub.ack.From, sub.ack.Effective.Rate = m.ack.Channel, m.ack.From, m.ack.Effective.Rate
		return &call{sub: sub}
	}
	k := c.pending[m.id]
	if k == nil || m.id == "" {
		return nil
	}
	delete(c.pending, m.id)
	if m.kind == KindSubscribed && k.sub != nil {
		c.adopt(cn, k, m.ack)
	}
	k.finish(m, nil)
	return k
}

// adopt makes an acknowledged subscription one of the client's.
func (c *Client) adopt(cn *conn, k *call, ack *Ack) {
	sub := k.sub
	sub.ack, sub.number, sub.conn = *ack, ack.Sub, cn
	if k.update != nil {
		k.update.apply(&sub.spec)
	} else if k.quit || sub.closed {
		c.wg.Go(func() { c.unsubscribe(c.ctx, cn, sub, &call{sub: sub}) })
		return
	}
	c.live[ack.Sub] = sub
	if !slices.Contains(c.subs, sub) {
		c.subs = append(c.subs, sub)
	}
}

// Subscribe asks for a subscription and waits for the acknowledgement. Its data
// comes with Next. A refusal is a *ServerError.
func (c *Client) Subscribe(ctx context.Context, s Subscription) (*Sub, error) {
	sub := &Sub{c: c, spec: s}
	sub.spec.From = nil
	if _, err := c.ask(ctx, &call{sub: sub, from: s.From, fresh: true}, s.Request); err != nil {
		return nil, fmt.Errorf("cannot subscribe: %w", err)
	}
	return sub, nil
}

// Update changes a subscription and waits for the acknowledgement.
func (c *Client) Update(ctx context.Context, sub *Sub, u Update) error {
	number, err := sub.on()
	if err == nil {
		_, err = c.ask(ctx, &call{sub: sub, update: &u}, func(id string) []byte { return u.Request(id, number) })
	}
	if err != nil {
		return fmt.Errorf("cannot update subscription: %w", err)
	}
	return nil
}

// on returns the number of the subscription on the connection that is.
func (s *Sub) on() (uint64, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.conn == nil || s.conn != s.c.conn {
		return 0, ErrOffline
	}
	return s.number, nil
}

// Unsubscribe ends a subscription and waits for the acknowledgement, if there is
// a connection. It is not resumed in any case.
func (c *Client) Unsubscribe(ctx context.Context, sub *Sub) error {
	c.mu.Lock()
	sub.closed = true
	c.subs = slices.DeleteFunc(c.subs, func(s *Sub) bool { return s == sub })
	cn := sub.conn
	online := cn != nil && cn == c.conn
	c.mu.Unlock()
	if !online {
		return nil
	}
	_, err := c.ask(ctx, &call{sub: sub}, sub.farewell)
	if err != nil {
		return fmt.Errorf("cannot unsubscribe: %w", err)
	}
	return nil
}

func (s *Sub) farewell(id string) []byte {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	r := request{Op: "unsubscribe", ID: id, Sub: s.number}
	return r.text()
}

// unsubscribe ends a subscription that came too late.
func (c *Client) unsubscribe(ctx context.Context, cn *conn, sub *Sub, k *call) {
	_ = c.post(ctx, cn, k, sub.farewell) // where it fails the connection is gone
}

// List returns the subscriptions as the server knows them.
func (c *Client) List(ctx context.Context) ([]Ack, error) {
	r := request{Op: "list"}
	m, err := c.ask(ctx, &call{}, r.with)
	if err != nil {
		return nil, fmt.Errorf("cannot list subscriptions: %w", err)
	}
	return m.items, nil
}

// Ping returns the server's time.
func (c *Client) Ping(ctx context.Context) (time.Time, error) {
	r := request{Op: "ping"}
	m, err := c.ask(ctx, &call{}, r.with)
	if err != nil {
		return time.Time{}, fmt.Errorf("cannot ping: %w", err)
	}
	return m.time.Std(), nil
}

// Verify asks for the checksums of rows. The outcome comes with Next, as
// KindChecksums events, one for each 1,000 tokens; with heal the client then
// asks for whole rows of those that differ.
func (c *Client) Verify(ctx context.Context, sub *Sub, tokens []market.ID, heal bool) error {
	number, err := sub.on()
	for part := range slices.Chunk(tokens, maxVerify) {
		if err == nil {
			r := request{Op: "verify", Sub: number, Tokens: part}
			err = c.post(ctx, nil, &call{sub: sub, heal: heal}, r.with)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot verify rows: %w", err)
	}
	return nil
}

// heal asks for whole rows.
func (c *Client) heal(cn *conn, sub *Sub, tokens []market.ID) {
	c.mu.Lock()
	r := request{Op: "verify", Sub: sub.number, Tokens: tokens, Heal: true}
	c.mu.Unlock()
	c.wg.Go(func() {
		_ = c.post(c.ctx, cn, &call{sub: sub}, r.with) // where it fails the connection is gone
	})
}

// restart subscribes again on a new connection, from where each channel is.
func (c *Client) restart(cn *conn) {
	c.dec.Reset()
	type again struct {
		k    *call
		spec Subscription
	}
	var all []again
	c.mu.Lock()
	for _, sub := range c.subs {
		if sub.conn == cn {
			continue // it was made on this connection
		}
		spec := sub.spec
		if !c.doubt {
			spec.From = sub.channel
		}
		all = append(all, again{&call{sub: sub, from: spec.From}, spec})
	}
	c.mu.Unlock()
	c.doubt = false
	if len(all) == 0 {
		return
	}
	// The requests are written down here, where the positions stand still.
	msgs := make([]request, len(all))
	for i := range all {
		msgs[i] = all[i].spec.request()
	}
	c.wg.Go(func() {
		for i := range all {
			if err := c.post(c.ctx, cn, all[i].k, msgs[i].with); err != nil {
				return // the connection is gone; the next one begins again
			}
		}
	})
}
