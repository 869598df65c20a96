package fanout

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

// silent is a hub in virtual time whose market ticks once a second.
type silent struct {
	*rig
	t *testing.T
}

// second lets one second pass, with a tick and a sweep.
func (s *silent) second() {
	<-time.After(time.Second)
	s.Publish(s.m.Tick())
	s.step(time.Now())
	s.sweep(time.Now())
}

// join subscribes and returns the channel.
func (s *silent) join(c *client, message string, format wire.Format) uint64 {
	a := c.ask("%s", message)
	if a.Type != "subscribed" {
		s.t.Fatalf("got %+v", a)
	}
	c.subs[a.Sub] = &sub{no: a.Sub, ids: map[market.ID]bool{1: true}, all: a.Tokens > 1, format: format}
	return a.Ch
}

// beats returns after how many of the next seconds the clients had heartbeats of a channel.
func (s *silent) beats(seconds int, ch uint64, c *client) (at []int) {
	for i := range seconds {
		n := c.replica.Messages
		s.second()
		if last := c.replica.Last; c.replica.Messages > n && last.Type == "heartbeat" && last.Ch == ch {
			at = append(at, i+1)
		}
	}
	return at
}

// TestFirstHeartbeat wants the channel's heartbeats 15 s after what the client
// had of it before, however the channel came to be.
func TestFirstHeartbeat(t *testing.T) {
	const one, all = `{"op":"subscribe","tokens":[1]}`, `{"op":"subscribe","all":true}`
	f := func(name, message string, before int, first ...int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			s := &silent{newRig(Config{}, wiretest.NewMarket(3, 4)), t}
			s.m.Moving, s.m.Churn = 0, 0
			for range before {
				c := connect(t, s.Hub)
				defer c.s.Detach()
				s.join(c, message, wire.ViewFormat(market.ViewQuote))
				for range 5 {
					s.second()
				}
			}
			c := connect(t, s.Hub)
			defer c.s.Detach()
			ch := s.join(c, message, wire.ViewFormat(market.ViewQuote))
			at := s.beats(first[len(first)-1]+1, ch, c)
			if len(at) != len(first) {
				t.Fatalf("%s: heartbeats after %v s", name, at)
			}
			for i := range at {
				if at[i] != first[i] {
					t.Fatalf("%s: heartbeats after %v s", name, at)
				}
			}
		})
	}
	f("private", one, 0, 15, 30)
	f("new shared list", one, 1, 15, 30)
	f("new shared market", all, 0, 15, 30)
	f("joined while silent", all, 1, 15, 25) // the next is the channel's own, 30 s after it began
	f("joined late", all, 2, 15, 20)
}

// TestLateMemberMissesNothing lets a member join a silent channel, and the
// market move after the heartbeat that was not the member's.
func TestLateMemberMissesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &silent{newRig(Config{}, wiretest.NewMarket(3, 4)), t}
		s.m.Moving, s.m.Churn = 0, 0
		const all = `{"op":"subscribe","all":true}`
		early, late := connect(t, s.Hub), connect(t, s.Hub)
		defer early.s.Detach()
		defer late.s.Detach()
		ch := s.join(early, all, wire.ViewFormat(market.ViewQuote))
		for range 10 {
			s.second()
		}
		s.join(late, all, wire.ViewFormat(market.ViewQuote))
		if at := s.beats(7, ch, early); len(at) != 1 || at[0] != 5 {
			t.Fatalf("heartbeats after %v s", at)
		}
		if late.replica.Channels[ch].Pos >= early.replica.Channels[ch].Pos {
			t.Fatal("the late member had the others' heartbeat")
		}
		s.m.Moving = 1
		compared := 0
		for range 8 { // a tick may be quiet all the same
			s.second()
			early.check(s.m.Boards)
			n := late.check(s.m.Boards)
			if a, b := early.replica.Channels[ch].Pos, late.replica.Channels[ch].Pos; n > 0 && a != b {
				t.Fatalf("at %d and %d", a, b)
			}
			compared += n
		}
		if compared < 5 {
			t.Fatalf("compared %d times", compared)
		}
	})
}
