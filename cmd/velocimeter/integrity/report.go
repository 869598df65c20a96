package integrity

import (
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist"
)

// Kinds of differences besides the kinds of records that persist.Fault names.
const (
	// KindServed is a served value that is not what store and journal give.
	KindServed = "served value"
	// KindTick is a value of a stored tick that its quote does not give.
	KindTick = "tick value"
	// KindTotals is a total of the market that is not the sum over its tokens.
	KindTotals = "totals"
)

// maxDifferences bounds Report.Differences; Count counts all of them.
const maxDifferences = 256

// Report is what a pass found.
type Report struct {
	Started time.Time
	Took    time.Duration

	DurableSeq uint64 // of the store, as its records say
	Records    uint64 // read and checked
	Recomputed uint64 // rows and cells
	Unchecked  uint64 // minutes of which ticks are gone

	Seq     uint64 // of the newest board that was compared; 0 where none was
	Tokens  uint64 // whose served values were computed again
	Ticks   uint64 // replayed for that
	Values  uint64 // of tokens and ticks that were compared
	Skipped string // why served values were not compared, or not all that were due

	Count       uint64
	ByKind      map[string]uint64
	Differences []Difference // the first 256

	told func(*Difference) // the first of each kind
}

// OK reports whether nothing was found.
func (r *Report) OK() bool { return r.Count == 0 }

// Difference is something that is not what it should be. What does not apply is zero.
type Difference struct {
	Kind               string
	Key                string // of a record, in hexadecimal
	Token              market.ID
	Time               market.Time
	From, To           uint64 // seqs, both included
	Field              string
	Served, Recomputed string // for KindTick the stored value stands for the served one
	What               string
}

func (r *Report) add(d Difference) {
	r.Count++
	if r.ByKind[d.Kind]++; r.ByKind[d.Kind] == 1 && r.told != nil {
		r.told(&d)
	}
	if len(r.Differences) < maxDifferences {
		r.Differences = append(r.Differences, d)
	}
}

// take adds what a check of the store found.
func (r *Report) take(s *persist.Report) {
	r.DurableSeq, r.Recomputed, r.Unchecked = s.DurableSeq, s.Recomputed, s.Unchecked
	for i := range s.Kinds {
		r.Records += s.Kinds[i].Records
	}
	for i := range s.Faults {
		f := &s.Faults[i]
		r.add(Difference{Kind: f.Kind, Key: f.Key, Token: f.Token, Time: f.Time, From: f.From, To: f.To, What: f.What})
	}
	if more := s.FaultCount - uint64(len(s.Faults)); more > 0 {
		r.Count += more
		r.ByKind["more"] += more
	}
}
