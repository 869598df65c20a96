package record

import (
	"encoding/binary"
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Control bits of a journal row. The first seven are the common ones, so that
// the control word usually takes one byte.
const (
	rowQuote   = 1 << iota // a quote follows; without it the row is clock-driven
	rowHas                 // Has differs from the record's reference
	rowPresent             // the set of members that are not null differs
	rowFlags               // the quote's flags differ
	rowShown               // the shown flags differ
	rowTime                // the source time differs from the tick's
	rowSelf                // self-reported members are not null
	rowInfo                // symbol, name and slug follow
	rowPrice               // the shown price differs from the quote's
	rowCap                 // the shown market cap differs
	rowVolume              // the shown volume differs
	rowAll     = 1<<iota - 1
)

// numMembers counts the Decimal members of a quote that a row may hold.
const (
	numMembers = 11
)

func members(q *market.Quote) [numMembers]*market.Decimal {
	return [numMembers]*market.Decimal{
		&q.Price, &q.MarketCap, &q.Volume24h, &q.PercentChange1h, &q.PercentChange24h, &q.PercentChange7d,
		&q.CirculatingSupply, &q.TotalSupply, &q.MaxSupply, &q.FullyDiluted, &q.Dominance,
	}
}

// reference is what most rows of a record have in common: those of its first
// quote. Rows say only where they differ, and can still be read one by one.
type reference struct {
	has     market.Mask
	present uint16
	flags   market.Flags
	shown   market.Flags
	mask    market.Mask
}

// TickEncoder turns ticks into journal payloads. It remembers which names the
// journal already holds, so that they are written once per process and token.
type TickEncoder struct {
	infos map[market.ID]*market.Info
	rows  []*market.Change
	index []byte
	body  []byte
}

// Append appends the payload of a tick. at is the instant under which the
// store files the tick, position the newest replay position so far.
func (e *TickEncoder) Append(dst []byte, t *market.Tick, at market.Time, position uint64) []byte {
	if e.infos == nil {
		e.infos = map[market.ID]*market.Info{}
	}
	e.rows = e.rows[:0]
	for c := range t.Changes {
		e.rows = append(e.rows, c)
	}
	slices.SortFunc(e.rows, func(a, b *market.Change) int { return int(int64(a.Snap.ID) - int64(b.Snap.ID)) })
	ref := e.reference()
	e.index, e.body = e.index[:0], e.body[:0]
	last := market.ID(0)
	for _, c := range e.rows {
		at := len(e.body)
		e.appendRow(c, &ref, t.SourceTime)
		e.index = appendUvarint(e.index, uint64(c.Snap.ID-last))
		e.index = appendUvarint(e.index, uint64(len(e.body)-at))
		last = c.Snap.ID
	}
	dst = appendHead(dst, t, at, position)
	dst = appendReference(dst, &ref)
	dst = appendIDs(dst, t.Removed)
	for _, id := range t.Removed {
		delete(e.infos, id)
	}
	if hasAside(t) {
		dst = appendAside(dst, t)
	}
	dst = appendUvarint(dst, uint64(len(e.rows)))
	dst = appendUvarint(dst, uint64(len(e.index)))
	clear(e.rows)
	return append(append(dst, e.index...), e.body...)
}

func (e *TickEncoder) reference() (ref reference) {
	for _, c := range e.rows {
		if c.Quote != nil {
			return reference{
				has: c.Quote.Has, present: presence(c.Quote), flags: c.Quote.Flags,
				shown: c.Snap.Flags(), mask: c.Mask,
			}
		}
	}
	return ref
}

func appendHead(dst []byte, t *market.Tick, at market.Time, position uint64) []byte {
	env := &t.Env
	dst = appendUvarint(dst, env.Seq)
	dst = appendUvarint(dst, uint64(at))
	dst = appendVarint(dst, int64(env.Now-at))
	dst = appendVarint(dst, int64(env.ReceivedAt-at))
	bits := byte(t.Kind)<<1 | byte(t.Verdict)<<4
	if env.Simulated {
		bits |= 1
	}
	if hasAside(t) {
		bits |= headAside
	}
	dst = append(dst, bits, byte(env.Source))
	dst = appendVarint(dst, int64(env.Cadence))
	dst = appendVarint(dst, env.TotalCap)
	dst = appendUvarint(dst, env.Moving)
	dst = appendVarint(dst, int64(env.Confirmed))
	dst = appendUvarint(dst, t.Position)
	dst = appendUvarint(dst, position)
	return appendVarint(dst, int64(t.SourceTime-at))
}

// headAside is the bit of a head that says that presence and rejection follow.
const headAside = 1 << 7

func hasAside(t *market.Tick) bool {
	return t.Rejection != nil || len(t.Absent)+len(t.Back) > 0
}

func appendAside(dst []byte, t *market.Tick) []byte {
	dst = appendIDs(appendIDs(dst, t.Absent), t.Back)
	if t.Rejection == nil {
		return append(dst, 0)
	}
	dst = append(dst, 1)
	dst = appendUvarint(dst, uint64(t.Rejection.Rows))
	dst = appendUvarint(dst, t.Rejection.Lacking)
	return append(appendUvarint(dst, uint64(len(t.Rejection.Reason))), t.Rejection.Reason...)
}

func appendIDs(dst []byte, ids []market.ID) []byte {
	dst = appendUvarint(dst, uint64(len(ids)))
	for _, id := range ids {
		dst = appendUvarint(dst, uint64(id))
	}
	return dst
}

func appendReference(dst []byte, ref *reference) []byte {
	dst = appendUvarint(dst, uint64(ref.has))
	dst = appendUvarint(dst, uint64(ref.present))
	dst = appendUvarint(dst, uint64(ref.flags))
	dst = appendUvarint(dst, uint64(ref.shown))
	return appendUvarint(dst, uint64(ref.mask))
}

func presence(q *market.Quote) (p uint16) {
	for i, d := range members(q) {
		if !d.IsNull() {
			p |= 1 << i
		}
	}
	return p
}

func (e *TickEncoder) appendRow(c *market.Change, ref *reference, sourceTime market.Time) {
	q := c.Quote
	if q == nil {
		e.body = append(e.body, 0)
		e.body = appendMask(e.body, c.Mask^ref.mask)
		return
	}
	s := SampleOf(c)
	present := presence(q)
	info := e.newInfo(q)
	bits := rowBits(q, &s, ref, present, sourceTime)
	if info != nil {
		bits |= rowInfo
	}
	dst := appendUvarint(e.body, bits)
	dst = appendMask(dst, c.Mask^ref.mask)
	optional := func(bit, v uint64) {
		if bits&bit != 0 {
			dst = appendUvarint(dst, v)
		}
	}
	optional(rowHas, uint64(q.Has))
	optional(rowPresent, uint64(present))
	optional(rowFlags, uint64(q.Flags))
	optional(rowShown, uint64(s.Flags))
	optional(rowTime, zigzag(int64(q.SourceTime-sourceTime)))
	for i, d := range members(q) {
		if present>>i&1 != 0 {
			dst = AppendNumber(dst, *d)
		}
	}
	dst = AppendNumber(dst, s.Velocity)
	dst = appendUvarint(dst, uint64(q.Rank))
	number := func(bit uint64, d market.Decimal) {
		if bits&bit != 0 {
			dst = AppendNumber(dst, d)
		}
	}
	number(rowPrice, s.Price)
	number(rowCap, s.Cap)
	number(rowVolume, s.Volume)
	number(rowSelf, q.SelfReportedCap)
	number(rowSelf, q.SelfReportedSupply)
	if info != nil {
		for _, text := range []string{info.Symbol, info.Name, info.Slug} {
			dst = append(appendUvarint(dst, uint64(len(text))), text...)
		}
	}
	e.body = dst
}

func rowBits(q *market.Quote, s *Sample, ref *reference, present uint16, sourceTime market.Time) uint64 {
	bits := uint64(rowQuote)
	set := func(bit uint64, on bool) {
		if on {
			bits |= bit
		}
	}
	set(rowHas, q.Has != ref.has)
	set(rowPresent, present != ref.present)
	set(rowFlags, q.Flags != ref.flags)
	set(rowShown, s.Flags != ref.shown)
	set(rowTime, q.SourceTime != sourceTime)
	set(rowSelf, !q.SelfReportedCap.IsNull() || !q.SelfReportedSupply.IsNull())
	set(rowPrice, s.Price != q.Price)
	set(rowCap, s.Cap != q.MarketCap)
	set(rowVolume, s.Volume != q.Volume24h)
	return bits
}

// newInfo returns the names of a token if the journal does not hold them yet.
func (e *TickEncoder) newInfo(q *market.Quote) *market.Info {
	if q.Info == nil {
		return nil
	}
	old := e.infos[q.ID]
	if old == q.Info {
		return nil
	}
	e.infos[q.ID] = q.Info
	if old != nil && *old == *q.Info {
		return nil
	}
	return q.Info
}

// appendMask appends a byte that says which of the six bytes of a mask are not
// zero, and those bytes. Bits 6 and 7 stand for fields that do not exist yet.
func appendMask(dst []byte, m market.Mask) []byte {
	var raw [8]byte
	binary.LittleEndian.PutUint64(raw[:], uint64(m))
	at := len(dst)
	dst = append(dst, 0)
	for i, b := range raw {
		if b != 0 {
			dst[at] |= 1 << i
			dst = append(dst, b)
		}
	}
	return dst
}

func (r *reader) mask() (m market.Mask) {
	set := r.byte()
	for i := range 8 {
		if set>>i&1 != 0 {
			m |= market.Mask(r.byte()) << (8 * i)
		}
	}
	return m
}

func (r *reader) text() string { return string(r.bytes(r.count(1))) }
