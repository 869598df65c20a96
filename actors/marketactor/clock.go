package marketactor

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/velocimeter/velocimeter/engine/market"
)

// catchUp is how far live clock ticks may be behind before they are made up
// for by one instead of one after another.
const catchUp = 5 * market.Second

// clock begins the next clock tick if one is due before the current batch, or
// live before now, and reports whether it did.
func (a *Actor) clock(c actor.Context) bool {
	limit := a.limit()
	at := a.clockAt()
	if at == 0 || at > limit {
		return false
	}
	if a.deps.Live && limit.Sub(at) > catchUp {
		at = limit
	}
	a.clocked = at
	a.dispatch(c, a.engine.Clock(at))
	return true
}

// limit is the instant up to which clock ticks are due now; 0 for none.
func (a *Actor) limit() market.Time {
	switch {
	case a.current != nil:
		return a.current.batch.ReceivedAt
	case a.deps.Live && a.ending == nil:
		return a.deps.Clock.Now()
	}
	return 0
}

// clockAt returns when the next clock tick is due, 0 for never. A deadline that
// the last clock tick did not move waits for the next poll: it would spin.
func (a *Actor) clockAt() market.Time {
	at := a.engine.Deadline()
	if at == 0 || a.clocked != 0 && at <= a.clocked {
		return 0
	}
	if a.deps.Live && a.clocked != 0 {
		at = max(at, a.clocked.Add(a.deps.TickMin))
	}
	return at
}

// arm has the supervisor woken at an instant; 0 for never.
func (a *Actor) arm(at market.Time) {
	if a.stopTimer != nil && a.timerAt == at {
		return
	}
	a.disarm()
	if at == 0 {
		return
	}
	a.timerAt = at
	a.stopTimer = a.deps.Clock.AfterFunc(at, a.handle.Wake)
}

func (a *Actor) disarm() {
	if a.stopTimer != nil {
		a.stopTimer()
		a.stopTimer = nil
	}
}
