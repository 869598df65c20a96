package persist

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// maxFaults bounds Report.Faults; FaultCount counts all of them.
const maxFaults = 256

// Report is what a verification found.
type Report struct {
	Dir    string
	Backup *Manifest // of a backup; nil of a lineage
	Epoch  string
	// FirstSeq is the oldest tick that is kept, DurableSeq the newest one that can
	// be restored, StateSeq the one of the saved state; 0 for none.
	FirstSeq, DurableSeq, StateSeq uint64
	Time                           market.Time // of DurableSeq
	Kinds                          []KindCount
	Recomputed                     uint64 // history rows and window cells computed again from finer ones, or from ticks
	// Unchecked counts closed minutes of which not every tick is there any more:
	// their rows could not be computed again.
	Unchecked uint64
	// Holes are seqs that were used and are known not to be in the store, and Cut
	// those that damage cut off from the state: earlier starts reported both.
	Holes, Cut []LostRange
	// Mended is what the newest mending found, nil where there was none: what it lists
	// as lost is no fault.
	Mended     *Mended
	FaultCount uint64
	Faults     []Fault // the first 256
	Took       time.Duration

	newest uint64 // tick that is there, whether it can be restored or not
}

// Sound reports whether nothing is wrong. Known holes are no fault.
func (r *Report) Sound() bool { return r.FaultCount == 0 }

// unsound returns what is wrong as one error, nil where nothing is.
func (r *Report) unsound() error {
	if r.Sound() {
		return nil
	}
	f := &r.Faults[0]
	return fmt.Errorf("%w: %d faults, the first: %s %s: %s", ErrCorrupt, r.FaultCount, f.Kind, f.Key, f.What)
}

func (r *Report) add(f Fault) {
	if r.FaultCount++; len(r.Faults) < maxFaults {
		r.Faults = append(r.Faults, f)
	}
}

// KindCount counts the records of a kind.
type KindCount struct {
	Kind    string
	Records uint64
	Rows    uint64 // of ticks and chunks; samples of cells
	Bytes   uint64 // keys and values
}

// Fault is something that is not as it should be. What does not apply is zero.
type Fault struct {
	Kind     string // of records, or "file" or "store"
	Key      string // in hexadecimal, or a file's name
	Token    market.ID
	Time     market.Time
	From, To uint64 // seqs, both included
	What     string
}

// kindOrder is the order in which a report lists the kinds.
var kindOrder = []byte{
	record.KindMeta, record.KindJournal, record.KindMinute, record.KindBlock, record.KindHour, record.KindFive, record.KindDay,
	record.KindMonth, record.KindState, record.KindEngine, record.KindCells, record.KindLast, record.KindTombstone, record.KindName,
}

var kindNames = map[byte]string{
	record.KindMeta: "meta", record.KindJournal: "tick", record.KindMinute: "minute", record.KindBlock: "block",
	record.KindHour: "1m", record.KindFive: "5m", record.KindDay: "1h", record.KindMonth: "1d", record.KindState: "token state",
	record.KindEngine: "engine state", record.KindCells: "window cells", record.KindLast: "window 5m cells", record.KindTombstone: "retirement", record.KindName: "imported symbol",
}

// describe reads from a key what a fault can say about where it is.
func describe(key []byte) Fault {
	f := Fault{Kind: kindNames[key[0]], Key: hex.EncodeToString(key)}
	if f.Kind == "" {
		f.Kind = "unknown"
	}
	switch key[0] {
	case record.KindJournal:
		f.From, _ = record.JournalSeq(key)
		f.To = f.From
	case record.KindMinute, record.KindBlock:
		f.Time, _ = record.KeyTime(key)
	case record.KindHour, record.KindFive, record.KindDay, record.KindCells, record.KindLast:
		if period, id, part, ok := record.ParseChunkKey(key); ok {
			f.Token, f.Time = id, hourOf(period, part)
		}
	case record.KindMonth:
		if period, id, _, ok := record.ParseChunkKey(key); ok {
			f.Token, f.Time = id, dayStart(period*monthDays)
		}
	case record.KindState:
		f.Token, _ = record.StateID(key)
	case record.KindName:
		f.Token, _ = record.NameID(key)
	case record.KindTombstone:
		if t, ok := record.ParseTombstoneKey(key); ok {
			f.Token, f.Time, f.From, f.To = t.ID, t.Time, t.Seq, t.Seq
		}
	}
	return f
}

func hourOf(day uint32, part byte) market.Time {
	return dayStart(day) + market.Time(part)*market.Time(market.Hour)
}
