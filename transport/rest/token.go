package rest

import (
	"strconv"

	"github.com/velocimeter/velocimeter/engine/market"
)

// AppendToken appends the token object of the REST API, complete, as JSON.
// Numbers are printed from their decimals, so the text is exact; it cannot fail.
func AppendToken(dst []byte, s *market.Snapshot) []byte {
	return appendToken(dst, s, selAll)
}

func appendToken(dst []byte, s *market.Snapshot, sel selection) []byte {
	dst = strconv.AppendUint(append(dst, `{"id":`...), uint64(s.ID), 10)
	dst = appendIdentity(dst, s, sel)
	for _, m := range &leading {
		dst = appendDecimal(dst, s, sel, m)
	}
	dst = appendGroup(dst, s, sel, percentChange[:], `,"percent_change":{`)
	dst = appendVelocity(dst, s, sel)
	if sel.any(trendMask) {
		dst = appendTrends(dst, s, sel)
	}
	dst = appendGroup(dst, s, sel, vwap[:], `,"vwap":{`)
	dst = appendDecimal(dst, s, sel, volatility)
	if sel.has(market.FieldFlags) {
		dst = appendFlags(append(dst, `,"flags":`...), s.Flags())
	}
	if sel.any(provenanceMask) || sel&selReceivedAt != 0 {
		dst = appendProvenance(dst, s, sel)
	}
	return append(dst, '}')
}

// member is a field and how it begins in JSON, comma and name included.
type member struct {
	field market.Field
	begin string
}

// The members in the order of the token object.
var (
	leading = [...]member{
		{market.FieldPrice, `,"price":`},
		{market.FieldMarketCap, `,"market_cap":`},
		{market.FieldVolume24h, `,"volume_24h":`},
		{market.FieldCirculatingSupply, `,"circulating_supply":`},
		{market.FieldTotalSupply, `,"total_supply":`},
		{market.FieldMaxSupply, `,"max_supply":`},
		{market.FieldFullyDilutedMarketCap, `,"fully_diluted_market_cap":`},
		{market.FieldDominance, `,"dominance_pct":`},
	}
	percentChange = [...]member{
		{market.FieldPercentChange1h, `,"1h":`},
		{market.FieldPercentChange24h, `,"24h":`},
		{market.FieldPercentChange7d, `,"7d":`},
	}
	vwap = [...]member{
		{market.FieldVWAP1h, `,"1h":`},
		{market.FieldVWAP24h, `,"24h":`},
		{market.FieldVWAP7d, `,"7d":`},
	}
	volatility = member{market.FieldVolatility24h, `,"volatility_24h":`}

	trendMask      = fieldRange(market.FieldDirection1h, market.FieldCoverage7d)
	provenanceMask = market.MaskOf(market.FieldSource, market.FieldSourceTime, market.FieldAgreeingSources, market.FieldSpread)
)

func fieldRange(first, last market.Field) (m market.Mask) {
	for f := first; f <= last; f++ {
		m |= f.Bit()
	}
	return m
}

func appendDecimal(dst []byte, s *market.Snapshot, sel selection, m member) []byte {
	if !sel.has(m.field) {
		return dst
	}
	return s.Value(m.field).AppendText(append(dst, m.begin...))
}

// appendGroup appends an object of decimals, or nothing where none is selected.
func appendGroup(dst []byte, s *market.Snapshot, sel selection, members []member, begin string) []byte {
	start := len(dst)
	dst = append(dst, begin...)
	inside := len(dst)
	for _, m := range members {
		dst = appendDecimal(dst, s, sel, m)
	}
	if len(dst) == inside {
		return dst[:start]
	}
	return append(dropComma(dst, inside), '}')
}

// dropComma removes the comma that the first member of an object brought along.
func dropComma(dst []byte, at int) []byte {
	copy(dst[at:], dst[at+1:])
	return dst[:len(dst)-1]
}

func appendIdentity(dst []byte, s *market.Snapshot, sel selection) []byte {
	info := infoOf(s)
	if sel.has(market.FieldSymbol) {
		dst = appendText(append(dst, `,"symbol":`...), info.Symbol, s.Info != nil)
	}
	if sel.has(market.FieldName) {
		dst = appendText(append(dst, `,"name":`...), info.Name, s.Info != nil)
	}
	if sel.has(market.FieldSlug) {
		dst = appendText(append(dst, `,"slug":`...), info.Slug, s.Info != nil)
	}
	if sel.has(market.FieldRank) {
		dst = rankOf(s).AppendText(append(dst, `,"rank":`...))
	}
	if sel&selCapClass != 0 {
		dst = appendName(append(dst, `,"cap_class":`...), classOf(s.Value(market.FieldMarketCap)).String())
	}
	if sel&selUpdatedAt != 0 {
		dst = appendTime(append(dst, `,"updated_at":`...), s.SourceTime())
	}
	if sel.has(market.FieldFreshness) {
		dst = appendName(append(dst, `,"freshness":`...), s.Freshness().String())
	}
	if sel&selLinks != 0 {
		dst = append(dst, `,"links":{"history":"/api/v1/tokens/`...)
		dst = strconv.AppendUint(dst, uint64(s.ID), 10)
		dst = append(dst, `/history"}`...)
	}
	return dst
}

var noInfo market.Info

func infoOf(s *market.Snapshot) *market.Info {
	if s.Info == nil {
		return &noInfo
	}
	return s.Info
}

// rankOf returns the rank, Null where the provider gives none (0).
func rankOf(s *market.Snapshot) market.Decimal {
	if r := s.Value(market.FieldRank); r.Mant != 0 {
		return r
	}
	return market.Null
}

func appendVelocity(dst []byte, s *market.Snapshot, sel selection) []byte {
	dst = appendDecimal(dst, s, sel, member{market.FieldVelocity, `,"velocity":`})
	if sel.has(market.FieldVelocityMethod) {
		dst = appendName(append(dst, `,"velocity_method":`...), market.Method(s.Int(market.FieldVelocityMethod)).String())
	}
	if sel.has(market.FieldVelocityReason) {
		dst = appendName(append(dst, `,"velocity_reason":`...), market.Reason(s.Int(market.FieldVelocityReason)).String())
	}
	return dst
}

// appendTrends appends the trend object; at least one of its fields is selected.
func appendTrends(dst []byte, s *market.Snapshot, sel selection) []byte {
	dst = append(dst, `,"velocity_trend":{`...)
	inside := len(dst)
	for p := range market.NumPeriods {
		start := len(dst)
		dst = append(append(append(dst, `,"`...), p.String()...), `":{`...)
		empty := len(dst)
		if sel.has(p.Direction()) {
			dst = appendName(append(dst, `,"direction":`...), market.Direction(s.Int(p.Direction())).String())
		}
		dst = appendDecimal(dst, s, sel, member{p.Change(), `,"change_pct":`})
		dst = appendDecimal(dst, s, sel, member{p.Slope(), `,"slope_per_hour":`})
		dst = appendDecimal(dst, s, sel, member{p.Coverage(), `,"coverage":`})
		if len(dst) == empty {
			dst = dst[:start]
			continue
		}
		dst = append(dropComma(dst, empty), '}')
	}
	return append(dropComma(dst, inside), '}')
}

// appendProvenance appends its object; at least one of its fields is selected.
func appendProvenance(dst []byte, s *market.Snapshot, sel selection) []byte {
	dst = append(dst, `,"provenance":{`...)
	inside := len(dst)
	if sel.has(market.FieldSource) {
		dst = appendName(append(dst, `,"source":`...), s.Source().String())
	}
	if sel.has(market.FieldSourceTime) {
		dst = appendTime(append(dst, `,"source_time":`...), s.SourceTime())
	}
	if sel&selReceivedAt != 0 {
		dst = appendTime(append(dst, `,"received_at":`...), s.ReceivedAt)
	}
	dst = appendDecimal(dst, s, sel, member{market.FieldAgreeingSources, `,"agreeing_sources":`})
	dst = appendDecimal(dst, s, sel, member{market.FieldSpread, `,"spread_bps":`})
	return append(dropComma(dst, inside), '}')
}

// capClass orders tokens by size.
type capClass uint8

const (
	classNone capClass = iota
	classLarge
	classMid
	classSmall
	classMicro
	numClasses
)

var classNames = [numClasses]string{"", "large", "mid", "small", "micro"}

// String returns the class's name, "" for none.
func (c capClass) String() string { return classNames[c] }

// The bounds between the classes, USD.
var (
	tenBillion     = market.FromInt(10_000_000_000)
	oneBillion     = market.FromInt(1_000_000_000)
	hundredMillion = market.FromInt(100_000_000)
)

// classOf: large > $10 bn, mid $1–10 bn, small $0.1–1 bn, micro below.
func classOf(marketCap market.Decimal) capClass {
	switch {
	case marketCap.IsNull():
		return classNone
	case marketCap.Cmp(tenBillion) > 0:
		return classLarge
	case marketCap.Cmp(oneBillion) >= 0:
		return classMid
	case marketCap.Cmp(hundredMillion) >= 0:
		return classSmall
	}
	return classMicro
}
