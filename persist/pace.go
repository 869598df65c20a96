package persist

import (
	"context"
	"time"
)

const (
	// paceSlice is how long work goes on before it rests: much less than a tick takes.
	paceSlice = time.Millisecond
	// maxRest bounds a rest: a process that was stopped has not worked meanwhile.
	maxRest = 5 * time.Second
	// paceSteps are the small steps between two looks at the clock.
	paceSteps = 32
)

// pace keeps work beside the service to a share of one processor: it works for a
// moment, then rests for as long as that needs. A nil pace never rests.
type pace struct {
	ctx   context.Context
	share float64 // 0 never rests
	step  func()  // of tests: called in place of every look
	begun time.Time
	steps int
}

// small is called in loops whose rounds take less than a microsecond.
func (p *pace) small() {
	if p == nil {
		return
	}
	if p.steps++; p.steps%paceSteps == 0 {
		p.look()
	}
}

// look rests if that is due; a context that ends ends the rest.
func (p *pace) look() {
	switch {
	case p == nil:
		return
	case p.step != nil:
		p.step()
		return
	case p.share <= 0:
		return
	}
	worked := time.Since(p.begun)
	if worked < paceSlice {
		return
	}
	timer := time.NewTimer(min(time.Duration(float64(worked)*(1/p.share-1)), maxRest))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.ctx.Done():
	}
	p.begun = time.Now()
}
