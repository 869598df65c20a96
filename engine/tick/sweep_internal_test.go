package tick

import (
	"strconv"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
)

// A token that panics in the sweep costs that token's turn and nothing else.
func TestSweepGoesOnBehindAPanic(t *testing.T) {
	m := NewMachine(Config{Epoch: "test", Shards: 1, NextSeq: 1, Quality: quality.DefaultConfig()})
	s, b := m.Shards[0], &market.Batch{Source: market.SourceMarket, ReceivedAt: 1_700_000_000_000, Cadence: market.Minute}
	for i := range 10 {
		b.Quotes = append(b.Quotes, market.Quote{
			ID: market.ID(i + 1), Info: &market.Info{Symbol: strconv.Itoa(i)}, SourceTime: b.ReceivedAt, Has: 7,
			Price: market.FromInt(int64(i + 1)), MarketCap: market.FromInt(int64(1000 + i)), Volume24h: market.FromInt(10),
		})
	}
	m.Poll(b, b.ReceivedAt, func(*market.Tick) {})
	sick := s.tokens[4]
	s.tokens[4] = nil
	p := m.Engine.Clock(m.Engine.Deadline())
	s.Begin(p, 0)
	panics := 0
	sweep := func() (done bool) {
		defer func() {
			if recover() != nil {
				panics++
			}
		}()
		s.Sweep()
		return true
	}
	for !sweep() {
		s.tokens[4] = sick
		s.Undo()
		s.tokens[4] = nil
	}
	s.tokens[4] = sick
	tick := m.Engine.Seal(p, []Part{s.Finish()})
	if panics != 1 || tick.Rows() != 9 {
		t.Errorf("%d panics, %d rows; want 1 and the nine other tokens", panics, tick.Rows())
	}
}

func TestPresentTokenIsNotGone(t *testing.T) {
	m := NewMachine(Config{Epoch: "test", Shards: 1, NextSeq: 1, Quality: quality.DefaultConfig()})
	s, b := m.Shards[0], &market.Batch{Source: market.SourceMarket, ReceivedAt: 1_700_000_000_000, Cadence: market.Minute}
	for i := range 3 {
		b.Quotes = append(b.Quotes, market.Quote{ID: market.ID(i + 1), Info: &market.Info{}, SourceTime: 1_700_000_000_000, Has: 1, Price: market.FromInt(1)})
	}
	m.Poll(b, b.ReceivedAt, func(*market.Tick) {})
	b2 := *b
	b2.ReceivedAt += 60_000
	b2.Quotes = b.Quotes[:1]
	p := m.Engine.Poll(&b2, b2.ReceivedAt)
	s.Begin(p, 0)
	for _, q := range p.Quotes(0) {
		s.Step(q)
	}
	s.Present(2)
	s.Present(77)
	s.Sweep()
	m.Engine.Seal(p, []Part{s.Finish()})
	if s.slots[s.index[2]].gone != 0 || s.slots[s.index[3]].gone == 0 {
		t.Error("only the third token was missing")
	}
}
