package fanout

import (
	"sync/atomic"
	"time"

	"github.com/velocimeter/velocimeter/transport/wire"
)

// pace is how often subscriptions of one rate are served: at every tick, or at
// the ticks that are at least a period apart. Whoever has a rate has its pace's
// rounds, and no others, so that what is encoded for one serves them all.
type pace struct {
	rate   wire.Rate
	period time.Duration // 0: every tick
	refs   int           // pages; guarded by table.mu

	// cur is the newest round: nil before there is a market, and for a slower
	// pace while nobody has it.
	cur  atomic.Pointer[round]
	next time.Time // earliest time of the next round; of the goroutine that steps
}

func newPaces() (all [wire.RateAuto]*pace) {
	for i := range all {
		rate := wire.Rate(i)
		all[i] = &pace{rate: rate, period: rate.Period()}
	}
	return all
}

// start gives a pace that nobody had the newest tick to go on from.
func (p *pace) start(newest *round) {
	if p.period > 0 {
		p.cur.Store(&round{view: newest.view, from: newest.seq()})
	}
}

// stop lets go of the board.
func (p *pace) stop() {
	if p.period > 0 {
		p.cur.Store(nil)
	}
}

// slack is the part of a period by which a round may come early. Ticks that are
// meant to be a period apart jitter; without it every other one would wait.
const slack = 16

// follow makes the round of a slower pace where one is due at now, and returns
// how long it still has to wait where it is not: 0 where nothing is waiting.
func (p *pace) follow(newest *round, now time.Time) (wait time.Duration) {
	last := p.cur.Load()
	if last == nil || last.seq() >= newest.seq() {
		return 0
	}
	if wait = p.next.Sub(now); wait > p.period/slack {
		return wait
	}
	p.cur.Store(&round{view: newest.view, from: last.seq()})
	// Early rounds do not add up: the next one counts from when this was due.
	p.next = p.next.Add(p.period)
	if p.next.Before(now) {
		p.next = now.Add(p.period)
	}
	return 0
}
