package simulator

import "github.com/velocimeter/velocimeter/engine/market"

// Feed is a market to serve other than the synthetic one: a recording.
type Feed interface {
	// At returns the market as of an instant: quotes in the order of a default
	// listing. The same batch may be returned as often as nothing changed; it is
	// read only. nil means that there is nothing yet.
	At(now market.Time) *market.Batch
}
