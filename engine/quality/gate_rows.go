package quality

import (
	"math/bits"

	"github.com/velocimeter/velocimeter/engine/market"
)

// differs reports whether the quote has a member that is not what the board
// shows. A negative amount always is: it is shown as null, and noted every time.
func differs(q *market.Quote, f market.Field, d market.Decimal, snap *market.Snapshot) bool {
	return q.Has.Has(f) && d != snap.Value(f)
}

// vanished reports whether price, cap or volume is zero, null or no value where
// the board has one.
func vanished(q *market.Quote, snap *market.Snapshot) bool {
	gone := func(f market.Field, d market.Decimal) bool {
		return q.Has.Has(f) && d.Mant <= 0 && snap.Int(f) > 0
	}
	return gone(market.FieldPrice, q.Price) || gone(market.FieldMarketCap, q.MarketCap) ||
		gone(market.FieldVolume24h, q.Volume24h)
}

// borderFlags are the flags that come with a quote.
const borderFlags = market.FlagRounded | market.FlagUnmappedID | market.FlagSimulated

// Same reports whether a quote of this provider says nothing that the snapshot
// does not show. Time is no value; the self-reported members are not shown.
func Same(q *market.Quote, source market.Source, simulated bool, snap *market.Snapshot) bool {
	return !differs(q, market.FieldPrice, q.Price, snap) && !differs(q, market.FieldVolume24h, q.Volume24h, snap) &&
		!differs(q, market.FieldMarketCap, q.MarketCap, snap) && sameRest(q, source, simulated, snap)
}

// BorderFlags returns the flags that come with a quote rather than from a rule.
func BorderFlags(q *market.Quote, simulated bool) market.Flags {
	flags := q.Flags & borderFlags
	if simulated {
		flags |= market.FlagSimulated
	}
	return flags
}

// sameRest compares what is not price, cap or volume.
func sameRest(q *market.Quote, source market.Source, simulated bool, snap *market.Snapshot) bool {
	switch {
	case BorderFlags(q, simulated) != snap.Flags()&borderFlags,
		source != snap.Source(),
		q.Info != snap.Info && q.Info != nil && snap.Info != nil && *q.Info != *snap.Info,
		q.Has.Has(market.FieldRank) && int64(q.Rank) != snap.Int(market.FieldRank),
		differs(q, market.FieldCirculatingSupply, q.CirculatingSupply, snap),
		differs(q, market.FieldTotalSupply, q.TotalSupply, snap),
		differs(q, market.FieldMaxSupply, q.MaxSupply, snap),
		differs(q, market.FieldFullyDilutedMarketCap, q.FullyDiluted, snap),
		differs(q, market.FieldPercentChange1h, Percent(q.PercentChange1h), snap),
		differs(q, market.FieldPercentChange24h, Percent(q.PercentChange24h), snap),
		differs(q, market.FieldPercentChange7d, Percent(q.PercentChange7d), snap),
		!q.Dominance.IsNull() && differs(q, market.FieldDominance, Percent(q.Dominance), snap):
		return false
	}
	return true
}

// Percent rounds a percentage to its published scale, 1e-4.
func Percent(d market.Decimal) market.Decimal {
	if d.Exp >= -4 {
		return d
	}
	return d.RoundPlaces(4)
}

// twins finds rows of one poll that are equal in price, cap and volume. It is a
// hash table that is kept from poll to poll.
type twins struct{ table []twin }

type twin struct {
	row  int32 // +1; negative once the row was counted; 0: no entry
	hash uint32
}

// reset empties the table and makes it large enough for rows. To clear all of
// it also brings it into the cache, in order.
func (t *twins) reset(rows int) {
	size := 1 << bits.Len(uint(2*rows))
	if size > cap(t.table) {
		t.table = make([]twin, size)
		return
	}
	t.table = t.table[:size]
	clear(t.table)
}

// add enters a row and returns by how much the number of equal rows grows: 2
// for the first pair, then 1 each.
func (t *twins) add(quotes []market.Quote, row int) int {
	q := &quotes[row]
	if q.Price.IsNull() && q.MarketCap.IsNull() && q.Volume24h.IsNull() {
		return 0
	}
	h := uint32(mix(mix(mix(key(q.Price))^key(q.MarketCap))^key(q.Volume24h)) >> 32)
	for i := int(h) & (len(t.table) - 1); ; i = (i + 1) & (len(t.table) - 1) {
		e := &t.table[i]
		if e.row == 0 {
			e.row, e.hash = int32(row)+1, h
			return 0
		}
		if e.hash != h {
			continue
		}
		p := &quotes[max(e.row, -e.row)-1]
		if p.Price != q.Price || p.MarketCap != q.MarketCap || p.Volume24h != q.Volume24h {
			continue
		}
		if e.row < 0 {
			return 1
		}
		e.row = -e.row
		return 2
	}
}

func key(d market.Decimal) uint64 { return uint64(d.Mant)<<8 ^ uint64(uint8(d.Exp)) }

// mix spreads the bits of v (the finaliser of MurmurHash3).
func mix(v uint64) uint64 {
	v ^= v >> 33
	v *= 0xff51afd7ed558ccd
	v ^= v >> 33
	v *= 0xc4ceb9fe1a85ec53
	return v ^ v>>33
}
