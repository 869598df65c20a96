package market

// TickKind says what caused a tick.
type TickKind uint8

// The kinds of ticks.
const (
	TickPoll  TickKind = iota // a provider's answer
	TickClock                 // time alone: freshness or frozen changed, a token retired
)

// Verdict is what the quality gate made of a poll as a whole.
type Verdict uint8

// The verdicts. A poll that is not accepted yields a tick without rows.
const (
	Accepted  Verdict = iota
	Unchanged         // equal to the poll before
	Poisoned          // rejected whole: too many zero, null, missing or equal rows
	numVerdicts
)

var verdictNames = [numVerdicts]string{"accepted", "unchanged", "poisoned"}

// String returns the verdict's name.
func (v Verdict) String() string { return nameOf(verdictNames[:], v) }

// Env is what every token is told at a tick: the market-wide facts that its own
// state machine needs. It is journaled with the tick, so that replaying the
// journal gives every token the same inputs.
type Env struct {
	Seq        uint64
	Now        Time   // engine time
	ReceivedAt Time   // of the poll; Now for clock ticks
	Source     Source // of the poll
	Simulated  bool
	Cadence    Millis // for freshness
	TotalCap   int64  // whole USD, of the tick before; 0 when unknown
	// Moving counts the polls so far in which at least half of the tokens
	// moved; a token that stays behind for long is frozen.
	Moving uint64
	// Confirmed is the newest time at which the provider still vouched for
	// values that did not change; 0 once that has lasted too long.
	Confirmed Time
}

// Change is one token's part of a tick.
type Change struct {
	Snap *Snapshot
	// Mask holds the fields that changed; AllFields for a new or returned token.
	Mask Mask
	// Quote is the input behind the change; nil for clock-driven ones.
	Quote *Quote
}

// Presence is what a poll says by naming tokens or not, where no row shows it:
// with it the journal knows since when each token is missing.
type Presence struct {
	Absent []ID // the first accepted poll that lacks them
	Back   []ID // named again after they were absent, though nothing about them changed
}

// PollRejection is what the review list keeps of a poll that was rejected whole.
type PollRejection struct {
	Reason string
	Rows   uint32
	// Lacking identifies the set of tokens whose absence was the reason; 0 where
	// it was another.
	Lacking uint64
}

// Tick is one sealed step of the market. Immutable; handed to the journal and
// to every publisher.
type Tick struct {
	Env      Env
	Kind     TickKind
	Verdict  Verdict
	Position uint64 // replay: the poll this tick came from; 0 when live
	// SourceTime is the newest source time among the quotes of the poll.
	SourceTime Time
	// Parts hold the changes as the shards made them, in no particular order.
	Parts [][]Change
	// Removed are the tokens retired at this tick.
	Removed []ID
	Presence
	// Rejection says why the poll was rejected whole; nil unless it was.
	Rejection *PollRejection
	// Board is the market after the tick.
	Board *Board
}

// Rows counts the changes.
func (t *Tick) Rows() int {
	n := 0
	for _, p := range t.Parts {
		n += len(p)
	}
	return n
}

// Changes yields every change.
func (t *Tick) Changes(yield func(*Change) bool) {
	for _, part := range t.Parts {
		for i := range part {
			if !yield(&part[i]) {
				return
			}
		}
	}
}
