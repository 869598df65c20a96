package main

import (
	"fmt"
	"sync"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/upstream/recording"
)

// tape plays a recording to whoever asks what the market is now: the feed of
// the embedded market when it serves a recording.
type tape struct {
	about string
	clock *replayClock

	mu      sync.Mutex
	from    *recording.Recording
	polls   polls
	current *market.Batch
	next    *market.Batch
}

func openTape(c *config.Loaded) (*tape, error) {
	if c.Replay.Speed == 0 {
		return nil, exitWith(exitConfig, fmt.Errorf("%s: replay.speed: max has no pace that clients could poll at; give a number", c.Values["replay.speed"].Origin))
	}
	r, err := recording.Open(c.Replay.File)
	if err != nil {
		return nil, exitWith(exitData, err)
	}
	t := &tape{from: r, polls: r}
	if c.Replay.Loop {
		t.polls = recording.NewLoop(r)
	}
	first, _ := r.Span()
	t.clock = newReplayClock(c.Replay.Speed, first)
	t.about = fmt.Sprintf("the recording %s, %d polls, %g times as fast as recorded", c.Replay.File, r.Len(), c.Replay.Speed)
	return t, nil
}

// At implements the embedded market's feed: the newest poll up to now. After
// the last one the market stands still.
func (t *tape) At(now market.Time) *market.Batch {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		if t.next == nil {
			b, err := t.polls.Next()
			if err != nil {
				return t.current // the whole recording was checked when it was opened
			}
			t.next = b
		}
		if t.next.ReceivedAt > now {
			return t.current
		}
		t.current, t.next = t.next, nil
	}
}

func (t *tape) close() { _ = t.from.Close() }
