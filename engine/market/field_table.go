package market

import "fmt"

// Period is one of the trend periods.
type Period uint8

// The trend periods.
const (
	Period1h Period = iota
	Period4h
	Period12h
	Period24h
	Period7d
	// NumPeriods counts the trend periods.
	NumPeriods
)

var (
	periodNames  = [NumPeriods]string{"1h", "4h", "12h", "24h", "7d"}
	periodLength = [NumPeriods]Millis{Hour, 4 * Hour, 12 * Hour, 24 * Hour, 7 * Day}
)

// String returns the period's name, such as "4h".
func (p Period) String() string { return nameOf(periodNames[:], p) }

// Length returns the period's duration.
func (p Period) Length() Millis { return periodLength[p] }

// ParsePeriod reads a period's name.
func ParsePeriod(name string) (Period, bool) { return parseName[Period](periodNames[:], name) }

// Direction returns the field of the velocity's direction over the period.
func (p Period) Direction() Field { return FieldDirection1h + Field(p) }

// Change returns the field of the velocity's change over the period.
func (p Period) Change() Field { return FieldChange1h + Field(p) }

// Slope returns the field of the velocity's slope over the period.
func (p Period) Slope() Field { return FieldSlope1h + Field(p) }

// Coverage returns the field of the period's coverage.
func (p Period) Coverage() Field { return FieldCoverage1h + Field(p) }

// buildSpecs writes the table of fields down; it is long because it is a table.
func buildSpecs() (t [NumFields]Spec) {
	const provider = ScaleAsProvider
	add := func(f Field, name, rest string, k Kind, unit string, scale int8, views Mask8) {
		t[f-1] = Spec{Field: f, Name: name, REST: rest, Kind: k, Unit: unit, Scale: scale, Views: views}
	}
	add(FieldPrice, "price", "price", KindDecimal, "USD", provider, inAll)
	add(FieldMarketCap, "market_cap", "market_cap", KindDecimal, "USD", provider, inAll)
	add(FieldVolume24h, "volume_24h", "volume_24h", KindDecimal, "USD", provider, inAll)
	add(FieldPercentChange1h, "percent_change_1h", "percent_change.1h", KindDecimal, "%", -4, inQuote|inFull)
	add(FieldPercentChange24h, "percent_change_24h", "percent_change.24h", KindDecimal, "%", -4, inQuote|inFull)
	add(FieldPercentChange7d, "percent_change_7d", "percent_change.7d", KindDecimal, "%", -4, inFull)
	add(FieldVelocity, "velocity", "velocity", KindDecimal, "1/day", -9, inVelocity|inFull)
	add(FieldVelocityMethod, "velocity_method", "velocity_method", KindEnum, "", 0, inVelocity|inFull)
	add(FieldVelocityReason, "velocity_reason", "velocity_reason", KindEnum, "", 0, inVelocity|inFull)
	for p := range NumPeriods {
		path := fmt.Sprintf("velocity_trend.%s.", p)
		add(p.Direction(), "velocity_direction_"+p.String(), path+"direction", KindEnum, "", 0, inVelocity|inFull)
		add(p.Change(), "velocity_change_"+p.String(), path+"change_pct", KindDecimal, "%", -4, inVelocity|inFull)
		add(p.Slope(), "velocity_slope_"+p.String(), path+"slope_per_hour", KindDecimal, "1/day per hour", -9, inFull)
		add(p.Coverage(), "velocity_coverage_"+p.String(), path+"coverage", KindDecimal, "ratio", -2, inFull)
	}
	add(FieldVWAP1h, "vwap_1h", "vwap.1h", KindDecimal, "USD", provider, inFull)
	add(FieldVWAP24h, "vwap_24h", "vwap.24h", KindDecimal, "USD", provider, inFull)
	add(FieldVWAP7d, "vwap_7d", "vwap.7d", KindDecimal, "USD", provider, inFull)
	add(FieldVolatility24h, "volatility_24h", "volatility_24h", KindDecimal, "annualised ratio", -6, inFull)
	add(FieldCirculatingSupply, "circulating_supply", "circulating_supply", KindDecimal, "tokens", provider, inFull)
	add(FieldTotalSupply, "total_supply", "total_supply", KindDecimal, "tokens", provider, inFull)
	add(FieldMaxSupply, "max_supply", "max_supply", KindDecimal, "tokens", provider, inFull)
	add(FieldFullyDilutedMarketCap, "fully_diluted_market_cap", "fully_diluted_market_cap", KindDecimal, "USD", provider, inFull)
	add(FieldDominance, "dominance_pct", "dominance_pct", KindDecimal, "%", -4, inFull)
	add(FieldRank, "rank", "rank", KindInteger, "", 0, inQuote|inFull)
	add(FieldFlags, "flags", "flags", KindFlags, "", 0, inAll)
	add(FieldFreshness, "freshness", "freshness", KindEnum, "", 0, inAll)
	add(FieldSourceTime, "source_time", "provenance.source_time", KindTime, "ms", 0, inFull)
	add(FieldSource, "source", "provenance.source", KindEnum, "", 0, inFull)
	add(FieldAgreeingSources, "agreeing_sources", "provenance.agreeing_sources", KindInteger, "", 0, inFull)
	add(FieldSpread, "spread_bps", "provenance.spread_bps", KindDecimal, "bps", -1, inFull)
	add(FieldSymbol, "symbol", "symbol", KindText, "", 0, inAll)
	add(FieldName, "name", "name", KindText, "", 0, inAll)
	add(FieldSlug, "slug", "slug", KindText, "", 0, inAll)
	return t
}
