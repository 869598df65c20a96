package recording

import (
	"strconv"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/upstream/jsonscan"
)

// maxPages bounds the answers of one poll.
const maxPages = 1000

// recorded are the members of a line that Writer wrote.
type recorded struct {
	answers   [][2]int // where each answer is in the line
	cadence   market.Millis
	simulated bool
}

// recordedMember reads the value of one of them.
func (d *decoder) recordedMember(key string, r *recorded) {
	s := &d.scan
	switch key {
	case "answers":
		if r.answers != nil {
			s.Fail("answers comes twice")
		}
		d.spans(r)
	case "simulated":
		r.simulated = s.Kind() == jsonscan.True
		if !r.simulated && s.Kind() != jsonscan.False {
			s.Fail("simulated is neither true nor false")
		}
		s.Skip()
	case "cadence_ms":
		if s.Kind() != jsonscan.Number {
			s.Fail("cadence_ms is not a number")
			return
		}
		n, err := strconv.ParseInt(string(s.Number()), 10, 64)
		if r.cadence = market.Millis(n); err != nil || n < 1 || r.cadence > 400*market.Day {
			s.Fail("cadence_ms is not in 1 ms to 400 days")
		}
	}
}

// spans notes where each answer is: they are read once the whole line is known
// to be in order.
func (d *decoder) spans(r *recorded) {
	s := &d.scan
	for ok := s.Enter(jsonscan.Array); ok && s.More(); {
		if len(r.answers) >= maxPages {
			s.Fail("too many answers")
			return
		}
		if s.Kind() != jsonscan.Object { // which steps over space
			s.Fail("an answer is not an object")
			return
		}
		start := s.Offset()
		s.Skip()
		r.answers = append(r.answers, [2]int{start, s.Offset()})
	}
	if len(r.answers) == 0 {
		s.Fail("answers is empty")
	}
}

// answers makes the batch of a line that Writer wrote, as the client made it
// when it polled.
func (d *decoder) answers(text []byte, b *market.Batch, r *recorded) (*market.Batch, error) {
	if b.ReceivedAt == 0 {
		return nil, errNoTime
	}
	flags := market.Flags(0)
	if r.simulated {
		flags = market.FlagSimulated
	}
	b.Simulated, b.Cadence = r.simulated, r.cadence
	d.begin(flags)
	for _, span := range r.answers {
		var err error
		if b.Quotes, _, err = d.page(text[span[0]:span[1]], b.Quotes, b.ReceivedAt); err != nil {
			return nil, err
		}
	}
	if len(b.Quotes) > maxRows {
		return nil, &jsonscan.Error{What: "too many rows"}
	}
	d.recorded = true
	return b, nil
}
