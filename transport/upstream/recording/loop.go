package recording

import (
	"errors"
	"io"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Loop repeats a recording without end: each round's times are shifted by one
// Period more, and positions go on counting.
type Loop struct {
	r     *Recording
	round uint64
}

// NewLoop returns a loop over r, which it then owns.
func NewLoop(r *Recording) *Loop { return &Loop{r: r} }

// Next returns the next poll. It never returns io.EOF.
func (l *Loop) Next() (*market.Batch, error) {
	b, err := l.r.Next()
	if errors.Is(err, io.EOF) {
		if err = l.r.Seek(0); err != nil {
			return nil, err
		}
		l.round++
		b, err = l.r.Next()
	}
	if err != nil {
		return nil, err
	}
	shift := l.r.Period() * market.Millis(l.round)
	b.Position += l.round * uint64(l.r.Len())
	b.ReceivedAt = b.ReceivedAt.Add(shift)
	for i := range b.Quotes {
		b.Quotes[i].SourceTime = b.Quotes[i].SourceTime.Add(shift)
	}
	return b, nil
}

// Seek makes Next return the poll after the one at position.
func (l *Loop) Seek(position uint64) error {
	n := uint64(l.r.Len())
	l.round = position / n
	return l.r.Seek(position % n)
}
