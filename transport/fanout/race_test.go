package fanout

import (
	"fmt"
	"sync"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

// TestSessionsAdvanceTogether lets many readers and the fan-out bring the same
// channels forward at once: whoever comes second must see the round of the first,
// or its client is taken back.
func TestSessionsAdvanceTogether(t *testing.T) {
	ticks := 1500
	if testing.Short() {
		ticks = 300
	}
	m := wiretest.NewMarket(11, 30)
	m.Keep = true
	r := newRig(Config{Stall: 1 << 60, Control: 1 << 30, MessagesPerSecond: 1e9, MessageBurst: 1e9, Batch: 1 << 10}, m)
	clients := make([]*client, 6)
	for i := range clients {
		c := connect(t, r.Hub)
		defer c.s.Detach()
		a := c.ask(`{"op":"subscribe","all":true,"fields":["price","volume_24h"]}`)
		c.subs[a.Sub] = &sub{no: a.Sub, all: true, format: wire.FieldsFormat(market.MaskOf(market.FieldPrice, market.FieldVolume24h))}
		c.slow, c.holds = true, make(chan struct{}, 1)
		clients[i] = c
	}
	var readers sync.WaitGroup
	over := make(chan struct{})
	for i, c := range clients {
		readers.Go(func() {
			for n := 0; ; n++ {
				if n%3 == i%3 {
					c.s.Receive([]byte(`{"op":"ping"}`))
				}
				select {
				case <-over:
					return
				case <-c.holds:
				}
				if err := c.readTogether(); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	for range ticks {
		r.tick(1)
	}
	close(over)
	readers.Wait()
	r.tick(1)
	for i, c := range clients {
		c.drain()
		r.tick(1)
		c.drain()
		if c.check(m.Boards) == 0 {
			t.Fatalf("client %d was not compared", i)
		}
	}
}

// readTogether takes what the link holds while other goroutines flush the session.
func (c *client) readTogether() error {
	c.s.mu.Lock()
	frames := c.held
	c.held = nil
	c.s.mu.Unlock()
	if frames == nil {
		return nil
	}
	for _, f := range frames {
		if err := c.apply(f); err != nil {
			return err
		}
	}
	c.s.Written()
	return nil
}

func (c *client) apply(frame []byte) error {
	for line := range messagesOf(frame) {
		if _, err := c.replica.Apply(line); err != nil {
			return fmt.Errorf("%w\n%.200s", err, line)
		}
	}
	return nil
}

// TestNextSeesTheChannelsRound is the moment of the race above, held still: the
// channel is further than the round that a laggard has seen.
func TestNextSeesTheChannelsRound(t *testing.T) {
	m := wiretest.NewMarket(11, 30)
	m.Moving = 1
	r := newRig(Config{}, m)
	quick, late := connect(t, r.Hub), connect(t, r.Hub)
	defer quick.s.Detach()
	defer late.s.Detach()
	for _, c := range []*client{quick, late} {
		c.ask(`{"op":"subscribe","all":true}`)
	}
	late.slow = true
	late.s.Receive([]byte(`{"op":"ping"}`)) // and does not read the answer
	mine := late.s.members[0]
	for mine.ch.last == nil || mine.ch.last.prev <= mine.pos {
		r.tick(1)
	}
	late.s.mu.Lock()
	defer late.s.mu.Unlock()
	if late.s.view.seq() == r.newest().seq() {
		t.Fatal("not late")
	}
	if !late.s.next(mine, r.now) || mine.pinned == nil || mine.pinned.prev != mine.pos || mine.pinned.seq != mine.ch.seq {
		t.Fatalf("begins %+v of a channel at %d", mine.pinned, mine.ch.seq)
	}
}
