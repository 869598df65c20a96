package rest

import (
	"context"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Boards gives the newest sealed market; nil before the first tick. It must be
// safe for concurrent use and cheap: every request asks.
type Boards interface {
	Board() *market.Board
}

// History answers questions about the past. It must be safe for concurrent use
// and obey the context. A token without history gives an empty page.
type History interface {
	// EachPoint calls each with every point of the page in order, valid during the
	// call, and ends with its error. page holds DurableSeq and Truncated from the
	// first point on, all but the points in the end.
	EachPoint(ctx context.Context, q market.HistoryQuery, page *market.HistoryPage, each func(*market.Point) error) error
}

// Past answers what the market was at an instant. It must be safe for concurrent
// use and obey the context.
type Past interface {
	Past(ctx context.Context, q market.PastQuery) (*market.PastMarket, error)
}

// Gate is one condition of being ready.
type Gate struct {
	Name   string
	OK     bool
	Detail string // why not, or a remark; may be empty
	// Fatal means that traffic must go elsewhere while the gate is not OK;
	// otherwise the service is degraded and serves its last good values.
	Fatal bool
}

// Readiness lists the gates. It must be safe for concurrent use.
type Readiness interface {
	Gates() []Gate
}
