package rest

import (
	"slices"
	"strconv"

	"github.com/velocimeter/velocimeter/engine/market"
)

// historyBody prints a page while it is read: as a list of points it is ten
// times as large as its numbers, and larger than a processor's caches.
type historyBody struct {
	m     *moment
	q     *historyQuery
	ask   market.HistoryQuery
	page  market.HistoryPage
	dst   []byte
	count int
}

// begin prints what is in front of the points.
func (b *historyBody) begin() {
	switch b.q.media {
	case mediaCSV:
		b.dst = b.q.appendHeader(b.dst)
	case mediaNDJSON:
	default:
		b.dst = b.appendHead(b.m.appendHead(b.dst))
	}
}

// roomAfter is the number of points after which the rest is foreseen.
const roomAfter = 8

// add prints the next point.
func (b *historyBody) add(p *market.Point) error {
	if b.count == 0 {
		b.begin()
	}
	b.count++
	at := len(b.dst)
	switch b.q.media {
	case mediaCSV:
		b.dst = b.q.appendCells(b.dst, p)
	case mediaNDJSON:
		b.dst = append(b.q.appendPoint(b.dst, p), '\n')
	default:
		if b.count > 1 {
			b.dst = append(b.dst, ',')
		}
		b.dst = b.q.appendPoint(b.dst, p)
	}
	if b.count == roomAfter {
		b.dst = slices.Grow(b.dst, b.rest(p.Time)*(len(b.dst)-at+8))
	}
	return nil
}

// rest is how many points may follow the one at t: all that the stretch has
// room for, where it is not raw.
func (b *historyBody) rest(t market.Time) int {
	width := b.ask.Granularity.Width()
	if width == 0 {
		return 0
	}
	return min(b.ask.Limit-b.count, max(0, int(min(b.ask.To, b.m.now).Sub(t)/width)))
}

// end prints what follows the points; next is the cursor of the next page.
func (b *historyBody) end(next string) []byte {
	if b.count == 0 {
		b.begin()
	}
	if b.q.media == mediaJSON {
		b.dst = b.appendTail(b.dst, next)
	}
	return b.dst
}

func (b *historyBody) appendHead(dst []byte) []byte {
	dst = strconv.AppendUint(append(dst, `{"id":`...), uint64(b.q.id), 10)
	dst = appendName(append(dst, `,"granularity":`...), b.q.granularity.String())
	dst = appendInstant(append(dst, `,"from":`...), b.ask.From)
	dst = appendInstant(append(dst, `,"to":`...), b.ask.To)
	dst = strconv.AppendUint(append(dst, `,"durable_seq":`...), b.page.DurableSeq, 10)
	dst = strconv.AppendBool(append(dst, `,"truncated":`...), b.page.Truncated)
	return append(dst, `,"points":[`...)
}

func (b *historyBody) appendTail(dst []byte, next string) []byte {
	dst = append(dst, `],"gaps":[`...)
	for i, g := range b.page.Gaps {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendInstant(append(dst, `{"from":`...), g.From)
		dst = append(appendInstant(append(dst, `,"to":`...), g.To), '}')
	}
	dst = appendLost(append(dst, ']'), b.page.Lost)
	dst = strconv.AppendInt(append(dst, `},"pagination":{"limit":`...), int64(b.q.limit), 10)
	dst = strconv.AppendInt(append(dst, `,"count":`...), int64(b.count), 10)
	dst = appendName(append(dst, `,"next":`...), next)
	return append(dst, `}}`...)
}
