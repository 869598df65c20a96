package market

// PastQuery asks for the market, or one token, as it was at an instant.
type PastQuery struct {
	At Time
	ID ID // only this token; 0 for all
	// Alive are the tokens of the present market and those that retired since At:
	// reading may end once all of them are found. Without them it goes on to the
	// end of the look-back; the answer is the same.
	Alive []Alive
}

// Alive is a token that is likely to be found.
type Alive struct {
	ID    ID
	First uint64 // a seq up to which it was not there; 0 where unknown
}

// PastLookBack is how much older than the asked instant a value may be: a token
// that nothing was heard of for longer is not part of the market of then.
const PastLookBack = Day

// PastMarket answers a PastQuery. Where At is not in Oldest…Durable, nothing
// but these two is set.
type PastMarket struct {
	Oldest  Time // of what is kept
	Durable Time // of the newest tick that is durable; 0 where there is none
	// Granularity is the finest that speaks of the instant; a token that it
	// says nothing of may come from a coarser one.
	Granularity Granularity
	AsOf        Time   // of the newest tick, or end of the newest whole stretch, by then; 0: none
	Seq         uint64 // of the newest tick by then, where Granularity is raw
	Tokens      []PastToken
}

// PastToken is a token as it was. Null are the fields that its granularity does
// not keep (KeptFields). The snapshot's source time is that of the values: the
// provider's, or the end of the stretch whose closing values they are. Info is
// nil where only the present market knows the names.
type PastToken struct {
	Snap        *Snapshot
	Granularity Granularity
}

// KeptFields returns the fields that history keeps at a granularity, names aside.
func KeptFields(g Granularity) Mask {
	kept := MaskOf(FieldPrice, FieldMarketCap, FieldVolume24h, FieldVelocity, FieldFlags)
	if g != GranularityRaw {
		return kept
	}
	return kept | MaskOf(FieldPercentChange1h, FieldPercentChange24h, FieldPercentChange7d, FieldVelocityMethod, FieldVelocityReason,
		FieldCirculatingSupply, FieldTotalSupply, FieldMaxSupply, FieldFullyDilutedMarketCap, FieldDominance, FieldRank,
		FieldFreshness, FieldSourceTime, FieldSource, FieldAgreeingSources)
}
