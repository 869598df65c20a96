package token

import (
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/engine/window"
)

// Token is one token's state machine. It is not safe for concurrent use.
type Token struct {
	core
	win window.Window
}

// core is all of a token but its windows: what a Mark copies whole.
type core struct {
	snap *market.Snapshot
	cfg  *quality.Config
	pool *Pool // nil: none
	id   market.ID

	time market.Time // source time of the current values
	seen market.Time // when the token was last in an answer

	// The provider's last word about age, from the Env of the last Step or Clock.
	cadence   market.Millis
	confirmed market.Time

	steps  quality.Steps
	level  quality.Level
	lows   quality.Lows
	supply quality.Supply
	still  quality.Still
	held   []sample // newest unclean samples in a row, at most maxHeld, oldest first

	// What the newest quote did, for a correction of it.
	prior   quality.Level // the level rule before it
	stepped uint8         // inputs whose step rule advanced
	fate    fate

	counts Counts
}

// fate is what became of the newest quote's sample.
type fate uint8

const (
	fateNone     fate = iota // nothing to sample, or kept out without a hold
	fateAccepted             // it is the newest in the window
	fateHeld                 // it is the last of the held ones
	numFates
)

// Counts are what a token counted since it was made; a restart begins at zero.
type Counts struct {
	Late      uint32 // quotes older than the current one, dropped
	Future    uint32 // source times too far ahead, replaced by the time of receipt
	Duplicate uint32 // quotes that said nothing new
	Corrected uint32 // other values under the same source time
	Range     uint32 // negative values, taken as null
	Excluded  uint32 // samples flagged and kept out of the window
}

var defaults = new(quality.Config).Complete()

// New returns a token that has seen nothing; its Snapshot is nil until the
// first Step.
func New(id market.ID) *Token { return NewWith(id, nil) }

// NewWith is New with thresholds, nil for the defaults. The config is shared,
// so it should be complete (quality.Config.Complete) and must not change.
func NewWith(id market.ID, cfg *quality.Config) *Token {
	if cfg == nil || *cfg == (quality.Config{}) {
		cfg = defaults
	}
	cfg = cfg.Complete()
	return &Token{core: core{id: id, cfg: cfg}, win: newWindow(cfg)}
}

func newWindow(cfg *quality.Config) window.Window {
	return window.New(window.Config{Begin: cfg.TrendBegin, End: cfg.TrendEnd})
}

// ID returns the token's id.
func (t *Token) ID() market.ID { return t.id }

// Snapshot returns the published state; nil before the first Step.
func (t *Token) Snapshot() *market.Snapshot { return t.snap }

// Prefetch asks for the memory outside the token that its next Step will need.
func (t *Token) Prefetch() {
	t.steps.Prefetch()
	t.win.Prefetch()
}

// Counts returns the token's counters.
func (t *Token) Counts() Counts { return t.counts }

// Seen notes that the token was in an answer although its quote was not stepped.
func (t *Token) Seen(env *market.Env) { t.seen = max(t.seen, env.ReceivedAt) }

// LastSeen returns when the answer arrived that had the token last.
func (t *Token) LastSeen() market.Time { return t.seen }

// Window returns the token's window, for reading.
func (t *Token) Window() *window.Window { return &t.win }

// Explain returns what the quality rules did to the token, with the limits that
// a quote would meet now; the newest rejections come first. It walks the whole
// window: it is for the one token that somebody asks about.
func (t *Token) Explain() market.Review {
	var r market.Review
	if t.snap != nil && t.snap.Review != nil {
		r = *t.snap.Review
	}
	t.limits(&r)
	return r
}

// HourCells returns the retained samples of the hour that begins at hour.
func (t *Token) HourCells(hour market.Time) []market.Cell { return t.win.HourCells(hour) }

// DirtyHours returns the closed hours whose samples changed since ClearDirty.
func (t *Token) DirtyHours() []market.Time { return t.win.DirtyHours() }

// ClearDirty forgets the dirty hours, after an export.
func (t *Token) ClearDirty() { t.win.ClearDirty() }
