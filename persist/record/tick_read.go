package record

import (
	"fmt"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Head is the part of a journaled tick that precedes its rows.
type Head struct {
	Tick market.JournalTick // without rows
	// At is the instant under which the store files the tick: Env.Now, or later
	// where the engine's clock went back.
	At market.Time
	// Position is the newest replay position up to this tick.
	Position uint64

	ref   reference
	rows  int
	index []byte
	body  []byte
}

// ReadHead reads the head of a payload made by TickEncoder, which stays
// referenced by the result. Error: ErrCorrupt.
func ReadHead(payload []byte) (*Head, error) {
	r := reader{b: payload}
	h := &Head{}
	env := &h.Tick.Env
	env.Seq = r.uvarint()
	h.At = market.Time(r.uvarint())
	env.Now = h.At + market.Time(r.varint())
	env.ReceivedAt = h.At + market.Time(r.varint())
	bits := r.byte()
	env.Simulated = bits&1 != 0
	h.Tick.Kind = market.TickKind(bits >> 1 & 7)
	h.Tick.Verdict = market.Verdict(bits &^ headAside >> 4)
	env.Source = market.Source(r.byte())
	env.Cadence = market.Millis(r.varint())
	env.TotalCap = r.varint()
	env.Moving = r.uvarint()
	env.Confirmed = market.Time(r.varint())
	h.Tick.Position = r.uvarint()
	h.Position = r.uvarint()
	h.Tick.SourceTime = h.At + market.Time(r.varint())
	h.ref = reference{
		has: market.Mask(r.uvarint()), present: uint16(r.uvarint()), flags: market.Flags(r.uvarint()),
		shown: market.Flags(r.uvarint()), mask: market.Mask(r.uvarint()),
	}
	h.Tick.Removed = r.ids()
	if bits&headAside != 0 {
		h.readAside(&r)
	}
	h.rows = r.count(2)
	h.index = r.bytes(r.count(1))
	h.body = r.b
	if r.bad {
		return nil, fmt.Errorf("%w: head of a tick", ErrCorrupt)
	}
	return h, nil
}

func (h *Head) readAside(r *reader) {
	h.Tick.Absent, h.Tick.Back = r.ids(), r.ids()
	if r.byte() == 1 {
		h.Tick.Rejection = &market.PollRejection{Rows: uint32(r.uvarint()), Lacking: r.uvarint(), Reason: r.text()}
	}
}

func (r *reader) ids() []market.ID {
	n := r.count(1)
	if n == 0 {
		return nil
	}
	ids := make([]market.ID, n)
	for i := range ids {
		ids[i] = market.ID(r.uvarint())
	}
	return ids
}

// Rows decodes every row into the tick. Error: ErrCorrupt.
func (h *Head) Rows() (*market.JournalTick, error) {
	h.Tick.Rows = make([]market.JournalRow, 0, h.rows)
	err := h.each(func(id market.ID, row []byte) bool {
		jr, _, ok := h.row(id, row)
		if ok {
			h.Tick.Rows = append(h.Tick.Rows, jr)
		}
		return ok
	})
	if err == nil && len(h.Tick.Rows) != h.rows {
		err = fmt.Errorf("%w: rows of tick %d", ErrCorrupt, h.Tick.Env.Seq)
	}
	if err != nil {
		return nil, err
	}
	return &h.Tick, nil
}

// Samples yields what every row with a quote showed, by ascending id. Error: ErrCorrupt.
func (h *Head) Samples(yield func(market.ID, *Sample)) error {
	good := true
	err := h.each(func(id market.ID, row []byte) bool {
		jr, s, ok := h.row(id, row)
		if good = ok; ok && jr.Quote != nil {
			yield(id, &s)
		}
		return ok
	})
	if err == nil && !good {
		err = fmt.Errorf("%w: rows of tick %d", ErrCorrupt, h.Tick.Env.Seq)
	}
	return err
}

// Pick decodes the rows of the tokens that want is true of, by ascending id. The
// sample is empty where the row has no quote. Error: ErrCorrupt.
func (h *Head) Pick(want func(market.ID) bool, yield func(*market.JournalRow, *Sample)) error {
	good := true
	err := h.each(func(id market.ID, row []byte) bool {
		if !want(id) {
			return true
		}
		jr, s, ok := h.row(id, row)
		if good = ok; ok {
			yield(&jr, &s)
		}
		return ok
	})
	if err == nil && !good {
		err = fmt.Errorf("%w: rows of tick %d", ErrCorrupt, h.Tick.Env.Seq)
	}
	return err
}

// Find returns what the tick showed for one token without decoding the other
// rows; ok is false where the tick holds no sample of it. Error: ErrCorrupt.
func (h *Head) Find(id market.ID) (s Sample, ok bool, err error) {
	bad := false
	err = h.each(func(at market.ID, row []byte) bool {
		if at < id {
			return true
		}
		if at == id {
			jr, sample, good := h.row(id, row)
			s, ok, bad = sample, good && jr.Quote != nil, !good
		}
		return false
	})
	if err == nil && bad {
		err = fmt.Errorf("%w: row %d of tick %d", ErrCorrupt, id, h.Tick.Env.Seq)
	}
	return s, ok, err
}

// each walks the index until fn returns false.
func (h *Head) each(fn func(id market.ID, row []byte) bool) error {
	index, body := reader{b: h.index}, reader{b: h.body}
	id := market.ID(0)
	for range h.rows {
		id += market.ID(index.uvarint())
		n := index.uvarint()
		if index.bad || n > uint64(len(body.b)) {
			return fmt.Errorf("%w: index of tick %d", ErrCorrupt, h.Tick.Env.Seq)
		}
		if !fn(id, body.bytes(int(n))) {
			return nil
		}
	}
	if len(index.b) != 0 || len(body.b) != 0 {
		return fmt.Errorf("%w: tail of tick %d", ErrCorrupt, h.Tick.Env.Seq)
	}
	return nil
}

func (h *Head) row(id market.ID, b []byte) (market.JournalRow, Sample, bool) {
	r := reader{b: b}
	bits := r.uvarint()
	row := market.JournalRow{ID: id, Mask: r.mask() ^ h.ref.mask}
	if bits&rowQuote == 0 {
		return row, Sample{}, !r.bad && len(r.b) == 0 && bits == 0
	}
	optional := func(bit, otherwise uint64) uint64 {
		if bits&bit != 0 {
			return r.uvarint()
		}
		return otherwise
	}
	q := &market.Quote{ID: id, SelfReportedCap: market.Null, SelfReportedSupply: market.Null}
	row.Quote = q
	q.Has = market.Mask(optional(rowHas, uint64(h.ref.has)))
	present := uint16(optional(rowPresent, uint64(h.ref.present)))
	q.Flags = market.Flags(optional(rowFlags, uint64(h.ref.flags)))
	s := Sample{Flags: market.Flags(optional(rowShown, uint64(h.ref.shown)))}
	q.SourceTime = h.Tick.SourceTime + market.Time(unzigzag(optional(rowTime, 0)))
	for i, d := range members(q) {
		*d = market.Null
		if present>>i&1 != 0 {
			*d = r.number()
		}
	}
	s.Velocity = r.number()
	q.Rank = uint32(r.uvarint())
	number := func(bit uint64, otherwise market.Decimal) market.Decimal {
		if bits&bit != 0 {
			return r.number()
		}
		return otherwise
	}
	s.Price = number(rowPrice, q.Price)
	s.Cap = number(rowCap, q.MarketCap)
	s.Volume = number(rowVolume, q.Volume24h)
	q.SelfReportedCap = number(rowSelf, market.Null)
	q.SelfReportedSupply = number(rowSelf, market.Null)
	if bits&rowInfo != 0 {
		q.Info = &market.Info{Symbol: r.text(), Name: r.text(), Slug: r.text()}
	}
	return row, s, !r.bad && len(r.b) == 0 && bits <= rowAll && present < 1<<numMembers
}
