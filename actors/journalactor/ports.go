package journalactor

import "github.com/velocimeter/velocimeter/engine/market"

// Journal is the store, as its single writer needs it. The methods are called
// by one goroutine at a time and may block on the disk. They must not change
// what they are given, and may keep it.
type Journal interface {
	// Reserve makes durable that seqs up to upTo may be in use.
	Reserve(upTo uint64) error
	// Append writes one tick; it is not durable yet.
	Append(t *market.Tick) error
	// Commit makes everything appended durable and returns the newest such seq.
	Commit() (durable uint64, err error)
	// Save replaces the stored state.
	Save(e *market.Export) error
}
