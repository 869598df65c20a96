package market

// Method says which capitalisation a velocity was divided by.
type Method uint8

// The methods. MethodNone goes with a null velocity.
const (
	MethodNone Method = iota
	MethodReportedCap
	MethodComputedCap
	MethodSelfReportedCap
	numMethods
)

var methodNames = [numMethods]string{"", "reported_cap", "computed_cap", "self_reported_cap"}

// String returns the method's name, "" for none.
func (m Method) String() string { return nameOf(methodNames[:], m) }

// Reason says why a velocity is null.
type Reason uint8

// The reasons. ReasonNone goes with a velocity that has a value.
const (
	ReasonNone Reason = iota
	ReasonNoCap
	ReasonNoVolume
	ReasonRejected
	numReasons
)

var reasonNames = [numReasons]string{"", "no_cap", "no_volume", "rejected"}

// String returns the reason's name, "" for none.
func (r Reason) String() string { return nameOf(reasonNames[:], r) }

// Direction is the trend of the velocity over a period.
type Direction uint8

// The directions.
const (
	Insufficient Direction = iota
	Stable
	Increasing
	Decreasing
	// NumDirections counts the directions.
	NumDirections
)

var directionNames = [NumDirections]string{"insufficient", "stable", "increasing", "decreasing"}

// String returns the direction's name.
func (d Direction) String() string { return nameOf(directionNames[:], d) }

// Freshness classes a value's age by its source time.
type Freshness uint8

// The freshness classes: up to 3 cadences old, up to 10, older.
const (
	Fresh Freshness = iota
	Aging
	Stale
	// NumFreshness counts the classes.
	NumFreshness
)

var freshnessNames = [NumFreshness]string{"fresh", "aging", "stale"}

// String returns the class's name.
func (f Freshness) String() string { return nameOf(freshnessNames[:], f) }

// Source is a provider. Numbers are stored and sent, so they are append-only.
type Source uint8

// The providers known so far. SourceMarket is the embedded synthetic market.
const (
	SourceUnknown Source = iota
	SourceCoinMarketCap
	SourceMarket
	SourceCoinLore
	numSources
)

var sourceNames = [numSources]string{"unknown", "coinmarketcap", "market", "coinlore"}

// String returns the provider's name.
func (s Source) String() string { return nameOf(sourceNames[:], s) }

// Flags is a set of remarks on a token.
type Flags uint32

// The flags; their bits and names are permanent.
const (
	FlagOutlierPrice Flags = 1 << iota
	FlagOutlierVolume
	FlagOutlierCap
	FlagQuarantined
	FlagLowLiquidity
	FlagSupplyChange
	FlagSupplyInconsistent
	FlagCapDisagreement
	FlagSourceDisagreement
	FlagFrozen
	FlagStale
	FlagUnmappedID
	FlagRounded
	FlagSimulated

	// NumFlags counts the flags.
	NumFlags = iota
	// FlagsExcluding keep a token out of trends, VWAP, volatility, rankings and movers.
	FlagsExcluding = FlagOutlierPrice | FlagOutlierVolume | FlagOutlierCap | FlagQuarantined
)

var flagNames = [NumFlags]string{
	"outlier_price", "outlier_volume", "outlier_cap", "quarantined", "low_liquidity", "supply_change",
	"supply_inconsistent", "cap_disagreement", "source_disagreement", "frozen", "stale", "unmapped_id", "rounded", "simulated",
}

// FlagNames returns the names in bit order. The slice must not be written to.
func FlagNames() []string { return flagNames[:] }

// Excluded reports whether any flag of the set keeps the token out of statistics.
func (f Flags) Excluded() bool { return f&FlagsExcluding != 0 }

// EnumNames returns the names of an enum field's values by number, or nil for
// fields of other kinds. The slice must not be written to.
func EnumNames(f Field) []string {
	switch {
	case f == FieldVelocityMethod:
		return methodNames[:]
	case f == FieldVelocityReason:
		return reasonNames[:]
	case f >= FieldDirection1h && f <= FieldDirection7d:
		return directionNames[:]
	case f == FieldFreshness:
		return freshnessNames[:]
	case f == FieldSource:
		return sourceNames[:]
	}
	return nil
}

func nameOf[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return "unknown"
}

func parseName[T ~uint8](names []string, name string) (T, bool) {
	for i, n := range names {
		if n == name && n != "" {
			return T(i), true
		}
	}
	return 0, false
}
