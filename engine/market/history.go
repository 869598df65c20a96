package market

// Granularity is the width of a history point.
type Granularity uint8

// The granularities. Raw is one point a tick.
const (
	GranularityRaw Granularity = iota
	Granularity1m
	Granularity5m
	Granularity15m
	Granularity1h
	Granularity4h
	Granularity1d
	// NumGranularities counts them.
	NumGranularities
)

var (
	granularityNames = [NumGranularities]string{"raw", "1m", "5m", "15m", "1h", "4h", "1d"}
	granularityWidth = [NumGranularities]Millis{0, Minute, 5 * Minute, 15 * Minute, Hour, 4 * Hour, Day}
)

// String returns the granularity's name.
func (g Granularity) String() string { return nameOf(granularityNames[:], g) }

// Width returns the duration of a point; 0 for raw.
func (g Granularity) Width() Millis { return granularityWidth[g] }

// ParseGranularity reads a granularity's name.
func ParseGranularity(name string) (Granularity, bool) {
	return parseName[Granularity](granularityNames[:], name)
}

// HistoryQuery asks for one token's past, From ≤ time < To, oldest first.
type HistoryQuery struct {
	ID          ID
	From, To    Time
	Granularity Granularity
	Limit       int  // at most this many points, ≥ 1
	After       Time // resume after the point that begins here; 0 from the start
}

// Bar sums a value up over a point. Null where the point holds no value.
type Bar struct{ Open, High, Low, Close, Mean Decimal }

// Point is one history point. Price and velocity come from what was shown,
// flagged values included; Flags is the union over the point.
type Point struct {
	Time     Time // start of the point; for raw the tick's time
	Seq      uint64
	Count    uint32 // samples in the point
	Price    Bar
	VWAP     Decimal // price weighted by 24 h volume, USD
	Cap      Bar
	Volume   Bar
	Velocity Bar
	Flags    Flags
}

// Gap is a stretch of a history answer without points.
type Gap struct{ From, To Time }

// HistoryPage answers a HistoryQuery.
type HistoryPage struct {
	Points []Point
	Gaps   []Gap
	// Lost are the parts of the page's stretch in which points may be missing, or lack
	// something, since the store was damaged there; in order, apart from each other.
	Lost       []Gap
	DurableSeq uint64
	// Next is the HistoryQuery.After of the following page; 0 at the end.
	Next Time
	// Truncated says that retention or durability cut the asked range short.
	Truncated bool
}
