package rest

import (
	"strconv"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// moment is what a body is encoded from: a board, and the instant of encoding.
type moment struct {
	board *market.Board
	now   market.Time
	// processing is the time from the provider's answer to the published
	// values of the newest tick; negative where unknown.
	processing time.Duration
}

// appendHead begins the envelope up to the value of data.
func (m *moment) appendHead(dst []byte) []byte {
	dst = appendInstant(append(dst, `{"status":"success","timestamp":`...), m.now)
	dst = append(dst, `,"meta":`...)
	dst = m.appendMeta(dst)
	return append(dst, `,"data":`...)
}

func (m *moment) appendMeta(dst []byte) []byte {
	b := m.board
	if b == nil {
		return append(dst, "null"...)
	}
	dst = appendName(append(dst, `{"source":`...), b.Source.String())
	dst = strconv.AppendBool(append(dst, `,"simulated":`...), b.Simulated)
	dst = appendString(append(dst, `,"epoch":`...), b.Epoch)
	dst = strconv.AppendUint(append(dst, `,"seq":`...), b.Seq, 10)
	dst = appendTime(append(dst, `,"updated_at":`...), b.SourceTime)
	dst = strconv.AppendInt(append(dst, `,"age_ms":`...), int64(age(b, m.now)), 10)
	dst = appendName(append(dst, `,"freshness":`...), freshnessOf(b).String())
	dst = append(dst, `,"processing_ms":`...)
	if m.processing < 0 {
		dst = append(dst, "null"...)
	} else {
		dst = market.NewDecimal(m.processing.Microseconds(), -3).AppendText(dst)
	}
	return append(dst, '}')
}

// age returns how old the newest value on the board is, never below 0.
func age(b *market.Board, now market.Time) market.Millis {
	return max(now.Sub(b.SourceTime), 0)
}

// freshnessOf returns the market's class: that of its freshest token. A change
// of any token's class is a tick, so it holds for as long as the board does.
func freshnessOf(b *market.Board) market.Freshness {
	best := market.Stale
	for s := range b.All {
		if best = min(best, s.Freshness()); best == market.Fresh {
			break
		}
	}
	return best
}

// page places a list in its whole; next 0 means the end.
type page struct{ total, start, limit, next int }

func (p page) append(dst []byte) []byte {
	dst = strconv.AppendInt(append(dst, `,"pagination":{"total":`...), int64(p.total), 10)
	dst = strconv.AppendInt(append(dst, `,"start":`...), int64(p.start), 10)
	dst = strconv.AppendInt(append(dst, `,"limit":`...), int64(p.limit), 10)
	dst = append(dst, `,"next":`...)
	if p.next == 0 {
		return append(dst, "null}"...)
	}
	return append(strconv.AppendInt(dst, int64(p.next), 10), '}')
}
