package marketactor

import "github.com/velocimeter/velocimeter/engine/market"

// Clock is engine time.
type Clock interface {
	// Now returns the present instant; it never goes back.
	Now() market.Time
	// AfterFunc calls f on a goroutine of its own once the instant has come,
	// unless stop was called before. A clock that only a replay's batches move
	// never calls it.
	AfterFunc(at market.Time, f func()) (stop func())
}

// Journal takes ticks and exports. No method blocks.
type Journal interface {
	// Append takes the next tick; the supervisor asked Room before.
	Append(t *market.Tick)
	// Save takes an export as of the newest appended tick.
	Save(e *market.Export)
	// Room reports whether another tick fits; if not, the supervisor is woken later.
	Room() bool
	// Reserved reports whether a seq may be used; if not, the supervisor is woken later.
	Reserved(seq uint64) bool
	// WantsState reports once that an export is needed now.
	WantsState() bool
}

// Publisher is told every sealed tick, in order, on the sealing goroutine. It
// must not block and must not write to the tick; it may keep it.
type Publisher interface {
	Publish(t *market.Tick)
}
