package marketactor

import (
	"github.com/velocimeter/velocimeter/engine/market"
)

// quoteBytes estimates what a waiting quote costs.
const quoteBytes = 320

// arrived brings a batch from a fetch actor.
type arrived struct {
	batch *market.Batch
	slot  int    // newest of a slot wins; negative for replays
	done  func() // called after the seal, or when the batch is given up; may be nil
}

// Bytes implements mailbox.Data.
func (m *arrived) Bytes() int { return quoteBytes * (len(m.batch.Quotes) + 1) }

// Slot implements mailbox.Newest.
func (m *arrived) Slot() int { return m.slot }

// sealed is sent by the shard that sealed; nil where a clock plan changed nothing.
type sealed struct{ tick *market.Tick }

// collected is sent by the shard that was the last to export.
type collected struct{}

// drained is sent by the shard that was the last to stop its tokens.
type drained struct{}

// wake says that time has come, or that the journal has room again.
type wake struct{}

// drain asks for the orderly end: what has arrived becomes ticks, then the
// export, then the tokens stop.
type drain struct{ done chan<- struct{} }
