package market

// Cell is one sample as a window retains it, in the window's own precision:
// NaN where the sample had no such value.
type Cell struct {
	Time     Time
	Price    float32 // USD
	Volume   float32 // 24 h volume, USD
	Velocity float32 // 1/day
}

// HourCells are the retained samples of one token in one closed hour, oldest
// first. A later export of the same hour replaces the earlier one.
type HourCells struct {
	ID    ID
	Hour  Time // start of the hour
	Cells []Cell
}

// TokenState is one token's state machine as bytes (the encoding belongs to
// engine/token): everything except the samples of closed hours.
type TokenState struct {
	ID   ID
	Blob []byte
	// Newest is the time of the window's newest sample, 0 where it has none: the
	// samples of closed hours that belong to the state are counted back from it.
	Newest Time
}

// Export is the whole engine as of the end of one tick, for the store. The
// store keeps the newest export, replacing the previous one in one step.
type Export struct {
	Seq    uint64
	Time   Time
	Engine []byte // market-wide counters; the encoding belongs to engine/tick
	Tokens []TokenState
	Hours  []HourCells // closed hours that changed since the export before
}

// JournalTick is a tick as the journal gives it back, oldest first.
type JournalTick struct {
	Env        Env
	Kind       TickKind
	Verdict    Verdict
	Position   uint64
	SourceTime Time
	Rows       []JournalRow
	Removed    []ID
	Presence
	Rejection *PollRejection
}

// JournalRow is one token's part of a journaled tick.
type JournalRow struct {
	ID    ID
	Mask  Mask
	Quote *Quote // nil for a clock-driven change
}
