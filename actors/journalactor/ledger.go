package journalactor

import (
	"sync/atomic"
	"time"

	"github.com/velocimeter/velocimeter/actors/mailbox"
	"github.com/velocimeter/velocimeter/engine/market"
)

// Ledger is what others may know about the journal. Safe for concurrent use.
type Ledger struct {
	box *mailbox.Lanes
	max Limits

	durable   atomic.Uint64
	appended  atomic.Uint64
	reserved  atomic.Uint64
	lost      atomic.Uint64
	failures  atomic.Uint64
	degraded  atomic.Bool
	wantState atomic.Bool
	waiting   atomic.Bool  // the supervisor is to be woken
	unsynced  atomic.Int64 // wall clock, ms, of the oldest append that is not durable; 0 none
}

// Limits bound the ticks and exports that wait for the disk.
type Limits struct {
	Count int // messages
	Bytes int // estimated
}

// Stats describe the journal.
type Stats struct {
	DurableSeq  uint64 // newest seq that a crash cannot take
	AppendedSeq uint64 // newest seq handed to the store
	ReservedSeq uint64 // seqs up to this one may be used
	Lost        uint64 // ticks that could not be appended
	Failures    uint64 // errors of the store
	Degraded    bool   // the last call of the store failed
	Waiting     int    // ticks and exports in the queue
	Bytes       int    // their estimated size
	Lag         time.Duration
}

// Stats returns the journal's figures.
func (l *Ledger) Stats() Stats {
	box := l.box.Stats()
	s := Stats{
		DurableSeq: l.durable.Load(), AppendedSeq: l.appended.Load(), ReservedSeq: l.reserved.Load(),
		Lost: l.lost.Load(), Failures: l.failures.Load(), Degraded: l.degraded.Load(),
		Waiting: box.Count, Bytes: box.Bytes,
	}
	if since := l.unsynced.Load(); since != 0 {
		s.Lag = max(time.Since(time.UnixMilli(since)), 0)
	}
	return s
}

// DurableSeq returns the newest seq that a crash cannot take.
func (l *Ledger) DurableSeq() uint64 { return l.durable.Load() }

// Room reports whether the queue takes another tick. When it says no, the
// supervisor will be woken once half of the queue is free.
func (l *Ledger) Room() bool {
	s := l.box.Stats()
	if s.Count < l.max.Count && s.Bytes < l.max.Bytes {
		return true
	}
	l.waiting.Store(true)
	// The queue may have drained between the two looks.
	s = l.box.Stats()
	return 2*s.Count <= l.max.Count && 2*s.Bytes <= l.max.Bytes
}

// Reserved reports whether seq may be used. When it says no, the supervisor
// will be woken.
func (l *Ledger) Reserved(seq uint64) bool {
	if seq <= l.reserved.Load() {
		return true
	}
	l.waiting.Store(true)
	return seq <= l.reserved.Load()
}

// WantsState reports, once, that the journal lacks a tick and needs an export.
func (l *Ledger) WantsState() bool { return l.wantState.Swap(false) }

// sizes of what a tick keeps alive, estimated from the types.
const (
	tickBytes   = 1 << 10
	changeBytes = 1600 // a snapshot and a quote
)

// append asks the journal to write one tick.
type appendTick struct {
	tick  *market.Tick
	bytes int
}

// Bytes implements mailbox.Data.
func (m *appendTick) Bytes() int { return m.bytes }

// save asks the journal to save an export.
type save struct {
	export *market.Export
	bytes  int
}

// Bytes implements mailbox.Data.
func (m *save) Bytes() int { return m.bytes }

// finish asks the journal to commit and to end; it comes after all data.
type finish struct{ done chan<- error }

// Bytes implements mailbox.Data.
func (*finish) Bytes() int { return 0 }

// flush is the sync window's timer.
type flush struct{}

func exportBytes(e *market.Export) int {
	n := len(e.Engine)
	for i := range e.Tokens {
		n += len(e.Tokens[i].Blob) + 32
	}
	return n + hourBytes(e.Hours)
}

func hourBytes(hours []market.HourCells) int {
	n := 0
	for i := range hours {
		n += 24*len(hours[i].Cells) + 48
	}
	return n
}
