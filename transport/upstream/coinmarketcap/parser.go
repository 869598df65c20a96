package coinmarketcap

import (
	"strconv"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/upstream/jsonscan"
)

// MaxRows bounds the rows of one answer.
const MaxRows = 100_000

// maxFuture is how far a source time may be ahead of the receipt before it is
// put back to it: one bad clock must not make every later quote look old.
const maxFuture = 2 * market.Minute

// Status is the status member of an answer.
type Status struct {
	Timestamp market.Time // 0 where missing
	Code      int         // 0 is success; -1 where it cannot be read
	Message   string      // bounded and printable; "" on success
	Notice    string
	Credits   int // spent by this call
	Elapsed   int // ms
	Total     int // total_count; 0 where missing
}

// Answer is what a listings or quotes answer held.
type Answer struct {
	Status    Status
	HasStatus bool
	HasData   bool
	// Rows counts the rows that were read, taken or not.
	Rows int
	// Rejected counts rows that were left out, Fields values that were.
	Rejected, Fields int
	// Clamped counts source times that were in the future and put back.
	Clamped int
	// Reason is the first rejection, such as "row 17: price is not a number".
	Reason string
}

// Parser reads listings and quotes answers of v1, v2 and v3 into quotes. It
// keeps the names of tokens, so that quotes of successive answers share the Info
// of a token that did not change. It is not safe for concurrent use; the zero
// value is not usable.
type Parser struct {
	// Bare accepts an array of coins without the envelope, as recordings have it.
	Bare bool
	// Flags are set on every quote.
	Flags market.Flags

	scan  jsonscan.Scanner
	infos map[market.ID]*known
	round uint64 // of Begin

	answer Answer
	quotes []market.Quote
	base   int // quotes of earlier pages
	bad    int // rows with any rejection
	row    row
	side   row // a quote of an array before its currency is known
}

// known is what is remembered of a token between answers.
type known struct {
	info  *market.Info
	round uint64 // of the answer that had it last
	at    int32  // its index in that answer
}

// NewParser returns a parser.
func NewParser() *Parser { return &Parser{infos: make(map[market.ID]*known)} }

// Begin starts a new batch: a token that comes twice between two calls of Begin
// is one row. Of two, the later source time stays; of equal ones the later read.
func (p *Parser) Begin() {
	p.round++
	// Names of tokens that are gone are dropped when they are the greater part.
	if n := len(p.quotes); len(p.infos) > 2*n+1024 {
		for id, k := range p.infos {
			if k.round+1 < p.round {
				delete(p.infos, id)
			}
		}
	}
	p.quotes = nil
}

// Parse reads one answer, appends its quotes to those of the batch so far and
// returns all. now is when the answer was complete: it stands in where an answer
// has no time at all (0: the newest source time does), and bounds source times.
// Errors are *jsonscan.Error; quotes is then to be thrown away.
func (p *Parser) Parse(body []byte, quotes []market.Quote, now market.Time) ([]market.Quote, Answer, error) {
	p.scan.Reset(body)
	p.answer, p.quotes, p.base, p.bad = Answer{}, quotes, len(quotes), 0
	if p.Bare && p.scan.Kind() == jsonscan.Array {
		p.data()
	} else {
		p.envelope()
	}
	if err := p.scan.End(); err != nil {
		return quotes, p.answer, err
	}
	if p.bad*5 > p.answer.Rows {
		return quotes, p.answer, &jsonscan.Error{
			What: strconv.Itoa(p.bad) + " of " + strconv.Itoa(p.answer.Rows) + " rows are bad, first " + p.answer.Reason,
		}
	}
	p.times(now)
	return p.quotes, p.answer, nil
}

// envelope reads the object around status and data, in any order.
func (p *Parser) envelope() {
	s := &p.scan
	for ok := s.Enter(jsonscan.Object); ok; {
		var key []byte
		if key, ok = s.Key(); !ok {
			return
		}
		switch string(key) {
		case "status":
			if p.answer.HasStatus {
				s.Fail("status comes twice")
			}
			p.answer.HasStatus = true
			readStatus(s, &p.answer.Status)
		case "data":
			if p.answer.HasData {
				s.Fail("data comes twice")
			}
			p.data()
		default:
			s.Skip()
		}
	}
}

// data reads coins: an array of them, or an object of them or of arrays.
func (p *Parser) data() {
	s := &p.scan
	switch s.Kind() {
	case jsonscan.Array:
		p.answer.HasData = true
		p.coins()
	case jsonscan.Object:
		p.answer.HasData = true
		for ok := s.Enter(jsonscan.Object); ok; {
			if _, ok = s.Key(); !ok {
				return
			}
			if s.Kind() == jsonscan.Array {
				p.coins()
			} else {
				p.coin()
			}
		}
	default:
		s.Skip()
	}
}

func (p *Parser) coins() {
	s := &p.scan
	for ok := s.Enter(jsonscan.Array); ok && s.More(); {
		p.coin()
	}
}

// times gives every row of this answer its source time and bounds it.
func (p *Parser) times(now market.Time) {
	fallback := p.answer.Status.Timestamp
	if fallback == 0 {
		fallback = now
	}
	rows := p.quotes[p.base:]
	if fallback == 0 {
		for i := range rows {
			fallback = max(fallback, rows[i].SourceTime)
		}
	}
	if now == 0 {
		now = fallback
	}
	for i := range rows {
		q := &rows[i]
		if q.SourceTime == 0 {
			q.SourceTime = fallback
		}
		if q.SourceTime > now.Add(maxFuture) {
			q.SourceTime = now
			p.answer.Clamped++
		}
	}
}

// readStatus reads the status object; a code may be a number or a string.
func readStatus(s *jsonscan.Scanner, st *Status) {
	for ok := s.Enter(jsonscan.Object); ok; {
		var key []byte
		if key, ok = s.Key(); !ok {
			return
		}
		switch string(key) {
		case "timestamp":
			if s.Kind() == jsonscan.String {
				st.Timestamp, _ = ParseTime(s.String())
				continue
			}
			s.Skip()
		case "error_code":
			st.Code = readInt(s)
		case "credit_count":
			st.Credits = max(readInt(s), 0)
		case "elapsed":
			st.Elapsed = max(readInt(s), 0)
		case "total_count":
			st.Total = max(readInt(s), 0)
		case "error_message":
			st.Message = readText(s)
		case "notice":
			st.Notice = readText(s)
		default:
			s.Skip()
		}
	}
}

// readInt reads a small integer that may be written as a string; null is 0, and
// -1 is what cannot be read.
func readInt(s *jsonscan.Scanner) int {
	var text []byte
	switch s.Kind() {
	case jsonscan.Number:
		text = s.Number()
	case jsonscan.String:
		text = s.String()
	case jsonscan.Null:
		s.Skip()
		return 0
	default:
		s.Skip()
		return -1
	}
	n, err := strconv.ParseInt(string(text), 10, 32)
	if err != nil {
		return -1
	}
	return int(n)
}

func readText(s *jsonscan.Scanner) string {
	if s.Kind() != jsonscan.String {
		s.Skip()
		return ""
	}
	return string(Clean(s.String(), maxDetail))
}
