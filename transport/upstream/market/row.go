package simulator

import (
	"slices"
	"strconv"
	"strings"

	"github.com/velocimeter/velocimeter/engine/market"
)

// auxSet are the optional fields to show; bit n stands for listingAux[n].
type auxSet uint32

const (
	auxPairs auxSet = 1 << iota
	auxRank
	auxAdded
	auxTags
	auxPlatform
	auxMax
	auxCirculating
	auxTotal
	auxCapByTotal
	auxReported24h
	auxVolume7d
	auxReported7d
	auxVolume30d
	auxReported30d
	auxIncluded
	auxActive
	auxFiat
)

func parseAux(list string) (a auxSet) {
	for item := range strings.SplitSeq(list, ",") {
		if i := slices.Index(listingAux, item); i >= 0 {
			a |= 1 << i
		}
	}
	return a
}

// rowStyle says how to print rows.
type rowStyle struct {
	version  int
	richTags bool // tags as objects: quotes from v2 on
	aux      auxSet
	digits   Digits
	converts []conversion
}

// appendRow appends one coin as an object. Every member but the last is
// followed by a comma, so that any of them can be left out.
func (s *rowStyle) appendRow(dst []byte, t *table, i int) []byte {
	q, c := &t.quotes[i], t.coins[i]
	text := c.json()
	dst = append(append(append(dst, '{'), text.head...), ',')
	if s.aux&auxPairs != 0 {
		dst = append(strconv.AppendInt(append(dst, `"num_market_pairs":`...), int64(c.pairs), 10), ',')
	}
	if s.aux&auxAdded != 0 {
		dst = append(append(append(dst, `"date_added":"`...), c.added...), `",`...)
	}
	if s.aux&auxTags != 0 {
		tags := text.tags
		if s.richTags {
			tags = text.tagsV2
		}
		dst = append(append(append(dst, `"tags":`...), tags...), ',')
	}
	dst = s.appendSupplies(dst, q)
	if s.aux&auxActive != 0 {
		dst = append(dst, `"is_active":1,`...)
	}
	dst = append(strconv.AppendBool(append(dst, `"infinite_supply":`...), c.growth > 0 && c.maxSupply == 0), ',')
	if s.aux&auxPlatform != 0 {
		dst = append(append(append(dst, `"platform":`...), text.platform...), ',')
	}
	if s.aux&auxRank != 0 && q.Has.Has(market.FieldRank) {
		dst = append(appendRank(append(dst, `"cmc_rank":`...), q.Rank), ',')
	}
	if s.aux&auxFiat != 0 {
		dst = append(dst, `"is_fiat":0,`...)
	}
	dst = member(dst, `"self_reported_circulating_supply":`, q.SelfReportedSupply)
	dst = member(dst, `"self_reported_market_cap":`, q.SelfReportedCap)
	updated := t.updated(i)
	dst = append(append(append(dst, `"tvl_ratio":null,"last_updated":`...), updated...), `,"quote":`...)
	return append(s.appendQuotes(dst, t, i, updated), '}')
}

func (s *rowStyle) appendSupplies(dst []byte, q *market.Quote) []byte {
	if s.aux&auxMax != 0 && q.Has.Has(market.FieldMaxSupply) {
		dst = member(dst, `"max_supply":`, q.MaxSupply)
	}
	if s.aux&auxCirculating != 0 && q.Has.Has(market.FieldCirculatingSupply) {
		dst = member(dst, `"circulating_supply":`, q.CirculatingSupply)
	}
	if s.aux&auxTotal != 0 && q.Has.Has(market.FieldTotalSupply) {
		dst = member(dst, `"total_supply":`, q.TotalSupply)
	}
	if s.aux&auxIncluded != 0 {
		dst = append(dst, `"is_market_cap_included_in_calc":1,`...)
	}
	return dst
}

func appendRank(dst []byte, rank uint32) []byte {
	if rank == 0 {
		return append(dst, "null"...)
	}
	return strconv.AppendUint(dst, uint64(rank), 10)
}

func member(dst []byte, name string, d market.Decimal) []byte {
	return append(appendNumber(append(dst, name...), d), ',')
}

// appendQuotes appends the quote member: an object by currency, from v3 on an array.
func (s *rowStyle) appendQuotes(dst []byte, t *table, i int, updated string) []byte {
	opening, closing := byte('{'), byte('}')
	if s.version >= 3 {
		opening, closing = '[', ']'
	}
	dst = append(dst, opening)
	h := t.history(i, s.digits)
	for n := range s.converts {
		if n > 0 {
			dst = append(dst, ',')
		}
		dst = s.appendQuote(dst, &t.quotes[i], &h, &s.converts[n])
		dst = append(append(append(dst, `"tvl":null,"last_updated":`...), updated...), '}')
	}
	return append(dst, closing)
}

// appendQuote appends the members of one conversion up to tvl; the object stays open.
func (s *rowStyle) appendQuote(dst []byte, q *market.Quote, h *history, c *conversion) []byte {
	if s.version >= 3 {
		dst = strconv.AppendInt(append(dst, `{"id":`...), int64(c.id), 10)
		dst = append(append(append(dst, `,"symbol":"`...), c.symbol...), `",`...)
	} else {
		dst = append(append(append(dst, '"'), c.key...), `":{`...)
	}
	base := c.base
	if base == nil {
		base = q // unused: a fiat currency does not move
	}
	amount := func(name string, f market.Field, d market.Decimal) {
		if q.Has.Has(f) {
			dst = member(dst, name, c.amount(d))
		}
	}
	change := func(name string, f market.Field, d, b market.Decimal) {
		if q.Has.Has(f) {
			dst = member(dst, name, c.percent(d, b))
		}
	}
	amount(`"price":`, market.FieldPrice, q.Price)
	amount(`"volume_24h":`, market.FieldVolume24h, q.Volume24h)
	dst = s.appendVolumes(dst, q, c)
	dst = member(dst, `"volume_change_24h":`, h.volumeChange)
	change(`"percent_change_1h":`, market.FieldPercentChange1h, q.PercentChange1h, base.PercentChange1h)
	change(`"percent_change_24h":`, market.FieldPercentChange24h, q.PercentChange24h, base.PercentChange24h)
	change(`"percent_change_7d":`, market.FieldPercentChange7d, q.PercentChange7d, base.PercentChange7d)
	dst = member(dst, `"percent_change_30d":`, c.percent(h.change30d, c.history.change30d))
	dst = member(dst, `"percent_change_60d":`, c.percent(h.change60d, c.history.change60d))
	dst = member(dst, `"percent_change_90d":`, c.percent(h.change90d, c.history.change90d))
	amount(`"market_cap":`, market.FieldMarketCap, q.MarketCap)
	if q.Has.Has(market.FieldDominance) {
		dst = member(dst, `"market_cap_dominance":`, q.Dominance)
	}
	amount(`"fully_diluted_market_cap":`, market.FieldFullyDilutedMarketCap, q.FullyDiluted)
	return dst
}

// appendVolumes appends the volumes that aux asks for, and what only v3 has.
func (s *rowStyle) appendVolumes(dst []byte, q *market.Quote, c *conversion) []byte {
	volume := c.amount(q.Volume24h)
	times := func(name string, bit auxSet, days float64) {
		if s.aux&bit != 0 {
			dst = member(dst, name, s.digits.total(volume.Float()*days))
		}
	}
	if s.aux&auxReported24h != 0 {
		dst = member(dst, `"volume_24h_reported":`, volume)
	}
	times(`"volume_7d":`, auxVolume7d, 7)
	times(`"volume_7d_reported":`, auxReported7d, 7)
	times(`"volume_30d":`, auxVolume30d, 30)
	times(`"volume_30d_reported":`, auxReported30d, 30)
	if s.version >= 3 {
		// The synthetic market trades a tenth of its volume on decentralised venues.
		dst = member(dst, `"cex_volume_24h":`, s.digits.total(volume.Float()*0.9))
		dst = member(dst, `"dex_volume_24h":`, s.digits.total(volume.Float()*0.1))
	}
	if s.version >= 3 || s.aux&auxCapByTotal != 0 {
		byTotal := s.digits.total(c.amount(q.Price).Float() * q.TotalSupply.Float())
		if s.version >= 3 {
			dst = member(dst, `"minted_market_cap":`, byTotal)
		}
		dst = member(dst, `"market_cap_by_total_supply":`, byTotal)
	}
	return dst
}
