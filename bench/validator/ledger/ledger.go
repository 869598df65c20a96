// Package ledger holds what a server promised and showed, and judges it: it is
// the validator without a network. Readers of a running server tell it every
// value, position, figure and exit that they saw; what contradicts an invariant
// is counted, and the first example of each kept. It never asks anybody
// anything, so a recorded violation is enough to test each verdict.
package ledger

import (
	"fmt"
	"sync"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Invariant is one of the promises, I1…I10.
type Invariant uint8

// The invariants. I5, of revoked keys, comes with access control: nothing is
// checked for it, and the report says so.
const (
	Durable    Invariant = iota + 1 // I1: no row with seq ≤ durable_seq is missing or changed
	Ordered                         // I2: seqs go up on every channel, and no seq is used twice
	Replica                         // I3: a client's rows are the server's at that seq
	Origin                          // I4: no value is served that no provider sent, or that failed its checks
	Revoked                         // I5
	Memory                          // I6: the resident set stays below its limit
	Released                        // I7: goroutines and descriptors come back when clients leave
	Secret                          // I8: no secret in logs, metrics, answers or stores
	Alive                           // I9: the process ends only as documented
	Ready                           // I10: ready only when that is true
	invariants = Ready
)

var titles = [invariants + 1]string{
	Durable:  "no row with seq <= durable_seq missing or changed",
	Ordered:  "seqs go up on every channel, none is used twice",
	Replica:  "a client's rows are the server's at that seq",
	Origin:   "only values that a provider sent and that passed its checks",
	Revoked:  "a revoked key does nothing",
	Memory:   "resident set below the limit",
	Released: "goroutines and descriptors come back",
	Secret:   "no secret in logs, metrics, answers or stores",
	Alive:    "the process ends only as documented",
	Ready:    "ready only when that is true",
}

// String returns the invariant's number and what it says.
func (i Invariant) String() string { return fmt.Sprintf("I%d %s", uint8(i), titles[i]) }

// Verdict is what is known of an invariant.
type Verdict struct {
	Invariant Invariant
	Checked   uint64 // comparisons that were made
	Violated  uint64 // of those
	Example   string // the first violation
}

// Origins knows what a provider sent.
type Origins interface {
	// Poll returns the number, from 1, of the answer that a token's price, cap or
	// volume came with, by its full digits; false where no answer that was to be
	// believed had it.
	Poll(id market.ID, f market.Field, d market.Decimal) (poll int, ok bool)
}

// Book is the record of a run. It may be used by many goroutines. It keeps the
// core values of at most 50,000 seqs a token and whole rows of the newest 256
// seqs; older ones are forgotten and checked no more.
type Book struct {
	origins Origins

	mu       sync.Mutex
	verdicts [invariants + 1]Verdict
	epoch    string
	process  int // counts starts
	tokens   map[market.ID]*timeline
	whole    map[uint64]map[market.ID]*wholeRow
	newest   uint64 // seq that was shown
	promised uint64 // newest durable_seq that was told
	lost     []lostRange
	holes    []Range
	crashes  []uint64 // what was durable after each
	unsure   uint64   // behind it a store may have holes that nobody told; 0 for nowhere
}

// Range is some seqs, both ends included.
type Range struct{ From, To uint64 }

func (r Range) has(seq uint64) bool { return r.From <= seq && seq <= r.To }

// lostRange is what a crash took.
type lostRange struct {
	Range
	answers int32 // that the provider had given by then
}

// New returns an empty book. Without origins no value is asked where it came
// from.
func New(origins Origins) *Book {
	b := &Book{origins: origins, tokens: map[market.ID]*timeline{}, whole: map[uint64]map[market.ID]*wholeRow{}}
	for i := range b.verdicts {
		b.verdicts[i].Invariant = Invariant(i)
	}
	return b
}

// Verdicts returns what is known of I1…I10, in that order.
func (b *Book) Verdicts() []Verdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Verdict(nil), b.verdicts[1:]...)
}

// Sound reports whether nothing was violated.
func (b *Book) Sound() bool {
	for _, v := range b.Verdicts() {
		if v.Violated > 0 {
			return false
		}
	}
	return true
}

// Check counts a comparison that somebody else made, and a violation where it
// failed.
func (b *Book) Check(i Invariant, ok bool, format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.check(i, ok, format, args...)
}

// check needs mu. It formats only what failed.
func (b *Book) check(i Invariant, ok bool, format string, args ...any) {
	v := &b.verdicts[i]
	v.Checked++
	if ok {
		return
	}
	if v.Violated++; v.Violated == 1 {
		v.Example = fmt.Sprintf(format, args...)
	}
}

// Epoch notes the epoch that an answer or a connection told. It is the same all
// through a run: nothing that a run does may begin a new lineage.
func (b *Book) Epoch(who, epoch string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.epoch == "" {
		b.epoch = epoch
	}
	b.check(Ordered, epoch == b.epoch, "%s: epoch %s, before it was %s", who, epoch, b.epoch)
}
