package persist

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// maxLoss bounds a report's list of losses: beyond it they are joined.
const maxLoss = 256

// anyToken is the last token there can be.
const anyToken = ^market.ID(0)

// rungs are the granularities that are stored, with the kinds of their chunks.
var rungs = []struct {
	kind  byte
	name  string
	width market.Millis
}{
	{record.KindHour, "1m", market.Minute},
	{record.KindFive, "5m", 5 * market.Minute},
	{record.KindDay, "1h", market.Hour},
	{record.KindMonth, "1d", market.Day},
}

// maxLostSeqs bounds a report's list of ticks: beyond it those are joined between
// which the fewest are there.
const maxLostSeqs = 256

func (r *Mended) addSeqs(add SeqRange) {
	r.LostSeqs = append(r.LostSeqs, add)
	if list := r.LostSeqs; len(list) > maxLostSeqs {
		slices.SortFunc(list, func(a, b SeqRange) int { return cmp.Compare(a.First, b.First) })
		between := func(i int) uint64 { return max(list[i].First, list[i-1].Last) - list[i-1].Last }
		at := 1
		for i := 2; i < len(list); i++ {
			if between(i) < between(at) {
				at = i
			}
		}
		list[at-1].Last = max(list[at-1].Last, list[at].Last)
		r.LostSeqs = slices.Delete(list, at, at+1)
		r.Joined++
	}
}

// losses turns what cannot be read into what history may lack.
func (m *mender) losses() {
	for _, h := range m.hits {
		m.report.Joined += uint64(h.more)
		m.hitLoss(h)
	}
	if m.manifest == nil || !m.manifest.whole { // a table that is gone leaves no trace
		l := Loss{Kind: "unknown", LastToken: anyToken, To: maxTime}
		if m.newestLog > 0 {
			l.To = m.newestLog // what was written since then is in no table, or in the log as well
		}
		m.add(l)
	}
	for _, l := range m.logHits {
		m.stretch(m.at(l[0]), m.until(l[1]), true)
	}
	for _, l := range m.report.LostSeqs {
		m.stretch(m.at(l.First-1), m.until(l.Last+1), true)
	}
}

// refusals notes the values that do not check out, but for those of which another
// version was taken over.
func (m *mender) refusals() error {
	if err := m.flush(0); err != nil {
		return err
	}
	for i := range m.refused {
		h := &m.refused[i]
		if !h.value {
			m.report.Joined += uint64(h.more)
			m.hitLoss(*h)
			continue
		}
		_, closer, err := m.db.Get(h.after)
		if err == nil {
			err = closer.Close()
		} else if errors.Is(err, pebble.ErrNotFound) {
			m.valueLoss(h.after)
			err = nil
		}
		if err != nil {
			return fmt.Errorf("%w: cannot read %x: %w", errTarget, h.after, err)
		}
	}
	return nil
}

// valueLoss notes what the value of a key was of.
func (m *mender) valueLoss(key []byte) {
	period, id, part, ok := record.ParseChunkKey(key)
	l := Loss{FirstToken: id, LastToken: id, To: maxTime}
	if token, state := record.StateID(key); state {
		l.Kind, l.FirstToken, l.LastToken = "state", token, token
		m.add(l)
		return
	}
	width := market.Hour
	switch key[0] {
	case record.KindHour, record.KindFive, record.KindCells, record.KindLast:
		l.From = dayStart(period).Add(market.Millis(part) * market.Hour)
	case record.KindDay:
		l.From, width = dayStart(period), market.Day
	case record.KindMonth:
		l.From, width = dayStart(period*monthDays), monthDays*market.Day
	default:
		m.kindLoss(key[0], key, after(key))
		return
	}
	if !ok {
		return // nothing asks for such a key
	}
	l.To, l.Kind = l.From.Add(width), lossKind(key[0])
	m.add(l)
}

// lossKind names what the chunks of a kind are in a report.
func lossKind(kind byte) string {
	for _, r := range rungs {
		if r.kind == kind {
			return r.name
		}
	}
	return "window"
}

// at is the instant of a tick, or of the newest known before it.
func (m *mender) at(seq uint64) (at market.Time) {
	if at, ok := m.ticks[seq]; ok {
		return at
	}
	for s, t := range m.ticks {
		if s <= seq {
			at = max(at, t)
		}
	}
	if m.state.seq <= seq {
		at = max(at, m.state.at)
	}
	return at
}

// until is the instant behind a tick; nobody knows when it was where there is none.
func (m *mender) until(seq uint64) market.Time {
	if at, ok := m.ticks[seq]; ok {
		return at + 1
	}
	return maxTime
}

// stretch notes that everything written from one tick to another may be missing:
// the ticks, their minutes, and the chunks of hours and days that ended meanwhile.
func (m *mender) stretch(from, to market.Time, written bool) {
	m.add(Loss{Kind: "tick", LastToken: anyToken, From: from, To: to})
	hours, days := record.Floor(from, market.Hour), record.Floor(from, market.Day)
	if written {
		hours, days = max(hours.Add(-market.Hour), 0), max(days.Add(-market.Day), 0)
		m.add(Loss{Kind: "window", LastToken: anyToken, From: hours, To: to})
	}
	for _, r := range rungs {
		since := hours
		if r.kind == record.KindMonth {
			since = days
		}
		m.add(Loss{Kind: r.name, LastToken: anyToken, From: since, To: to})
	}
}

// hitLoss notes what may have been between two keys.
func (m *mender) hitLoss(h hit) {
	for kind := byte('a'); kind <= 'z'; kind++ {
		low, high := []byte{kind}, []byte{kind + 1}
		if bytes.Compare(h.after, low) > 0 {
			low = h.after
		}
		if h.before != nil && bytes.Compare(h.before, high) < 0 {
			high = h.before
		}
		if bytes.Compare(low, high) < 0 {
			m.kindLoss(kind, low, high)
		}
	}
}

func (m *mender) kindLoss(kind byte, low, high []byte) {
	all := Loss{LastToken: anyToken, To: maxTime}
	switch kind {
	case record.KindHour, record.KindFive, record.KindDay, record.KindMonth, record.KindCells, record.KindLast:
		m.chunkLoss(kind, low, high)
	case record.KindBlock, record.KindMinute:
		from, to := max(number(low, kind), m.rolled.hours), maxTime
		if high[0] == kind {
			to = number(high, kind).Add(market.Minute)
		}
		if from < to {
			m.stretch(from, to, false)
		}
	case record.KindJournal:
		from, to := m.at(uint64(number(low, kind))), maxTime
		if high[0] == kind {
			to = m.until(uint64(number(high, kind)))
		}
		m.add(Loss{Kind: "tick", LastToken: anyToken, From: from, To: to})
		if from = max(from, m.rolled.hours); from < to {
			m.stretch(from, to, false) // minutes that were not closed
		}
	case record.KindState, record.KindEngine:
		all.Kind = "state"
		m.add(all)
	case record.KindTombstone:
		all.Kind, all.From = "retirement", number(low, kind)
		m.add(all)
	}
}

// number reads the eight bytes behind the kind of a key that may be cut short.
func number(key []byte, kind byte) market.Time {
	if len(key) == 0 || key[0] != kind {
		return 0
	}
	var b [8]byte
	copy(b[:], key[1:])
	return market.Time(min(binary.BigEndian.Uint64(b[:]), uint64(maxTime)))
}

// chunkLoss notes the chunks between two keys.
func (m *mender) chunkLoss(kind byte, low, high []byte) {
	l, known := layouts[kind]
	if !known {
		l = layout{days: 1, hourly: true} // window cells
	}
	type place struct {
		period, id uint32
		part       byte
	}
	take := func(key []byte) place {
		var b [9]byte
		copy(b[:], key[1:])
		return place{binary.BigEndian.Uint32(b[:]), binary.BigEndian.Uint32(b[4:]), b[8]}
	}
	loss := Loss{Kind: lossKind(kind), LastToken: anyToken, To: maxTime}
	from := take(low)
	loss.From = dayStart(from.period * l.days)
	if high[0] == kind {
		to := take(high)
		loss.To = dayStart((to.period + 1) * l.days)
		switch {
		case from.period == to.period && from.id == to.id && len(low) == 10 && to.part <= from.part+1:
			return // nothing fits in between
		case from.period == to.period:
			loss.FirstToken, loss.LastToken = market.ID(from.id), market.ID(to.id)
		}
	}
	m.add(loss)
}

// add joins a loss to the list. Nothing was before the beginning.
func (m *mender) add(l Loss) {
	if l.From = max(l.From, record.Floor(m.meta.born, market.Day)); l.From >= l.To {
		return
	}
	list := m.report.Lost
	for i := range list {
		if o := &list[i]; o.Kind == l.Kind && (o.covers(&l) || o.FirstToken == l.FirstToken && o.LastToken == l.LastToken && l.From <= o.To && o.From <= l.To) {
			o.From, o.To = min(o.From, l.From), max(o.To, l.To)
			return
		}
	}
	m.report.Lost = append(m.report.Lost, l)
	if len(m.report.Lost) <= maxLoss {
		return
	}
	m.report.Joined++
	first := m.report.Lost[0] // the oldest of a kind takes in the next of that kind
	for i := 1; i < len(m.report.Lost); i++ {
		if o := m.report.Lost[i]; o.Kind == first.Kind {
			m.report.Lost[i] = Loss{
				Kind: o.Kind, FirstToken: min(o.FirstToken, first.FirstToken), LastToken: max(o.LastToken, first.LastToken),
				From: min(o.From, first.From), To: max(o.To, first.To),
			}
			m.report.Lost = m.report.Lost[1:]
			return
		}
	}
	m.report.Lost = append(m.report.Lost[1:], first)
}

func (l *Loss) covers(o *Loss) bool {
	return l.FirstToken <= o.FirstToken && o.LastToken <= l.LastToken && l.From <= o.From && o.To <= l.To
}

func (l *Loss) overlaps(o *Loss) bool {
	return l.FirstToken <= o.LastToken && o.FirstToken <= l.LastToken && l.From < o.To && o.From < l.To
}

// settle strikes off the losses that finer chunks have made good: they are kept
// for long enough, and none of them is missing. Imported rows may have nothing finer
// beneath.
func (m *mender) settle() {
	newest := m.rolled.hours
	for _, at := range m.ticks {
		newest = max(newest, at)
	}
	r := &m.o.Retention
	for _, rule := range []struct {
		kinds []string
		finer string
		since market.Time
	}{
		{[]string{"5m", "1h"}, "1m", record.Floor(newest.Add(-r.Minute), market.Day).Add(market.Day)},
		{[]string{"1d"}, "1h", record.Floor(newest.Add(-r.Hour), market.Day).Add(market.Day)},
	} {
		m.report.Lost = slices.DeleteFunc(m.report.Lost, func(l Loss) bool {
			return slices.Contains(rule.kinds, l.Kind) && l.From >= rule.since && !m.meta.coarse.meets(l.From, l.To) && !slices.ContainsFunc(m.report.Lost, func(o Loss) bool {
				return o.Kind == rule.finer && o.overlaps(&l)
			})
		})
	}
}
