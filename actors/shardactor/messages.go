package shardactor

import (
	"sync/atomic"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/tick"
)

// Run asks for the shard's part of a tick. The supervisor sends the same one to
// every shard; each writes its own element of Parts and calls Done once.
type Run struct {
	Plan  *tick.Plan
	Parts []tick.Part
	Done  func()
}

// Collect asks for the shard's export as of the last tick. Each shard fills its
// own element of Exports, or sets Failed, and calls Done once.
type Collect struct {
	Exports []market.Export
	Failed  atomic.Bool
	Done    func()
}

// Drain asks the shard to stop its token actors and wait for them, then to call
// Done once. Sent by the supervisor when no tick will follow.
type Drain struct{ Done func() }

// retry is the shard's message to itself: the tokens that panicked have been
// restarted by now, since failures travel in the system lane.
type retry struct{}
