package market

import (
	"math"
	"math/bits"
)

// Snapshot is the published state of one token as of one tick. It is immutable:
// readers hold it as long as they like, the next change makes a new one.
//
// A tick makes one for every token that changed, so its layout is a matter of
// cost: pointers stand first (the collector reads no further than the last of
// them) and versions are 32-bit distances.
type Snapshot struct {
	Info *Info
	// Review explains what quality checks did; nil where nothing was ever rejected.
	Review *Review

	ID ID
	// Samples counts what the 7-day window retains.
	Samples uint32
	// Seq is the tick of the newest change; no version is above it.
	Seq uint64
	// ReceivedAt is when the answer behind the current values arrived.
	ReceivedAt Time

	// Mant and Exp hold fields 1…45 at index field−1 as normalised Decimals;
	// enums, flags, counts and times are integers with exponent 0.
	Mant [NumNumeric]int64
	Exp  [NumNumeric]int8

	// The inputs of the last accepted (not outlying) sample: market totals use
	// these while the token is excluded. Null before the first one.
	AcceptedPrice, AcceptedCap, AcceptedVolume Decimal

	// versions are distances from base, the seq before the token's first tick.
	base     uint64
	versions [NumFields]uint32
}

// Review is the explanation that /velocity shows. Immutable, replaced when it changes.
type Review struct {
	// Rejected holds the newest rejections first, at most MaxRejections.
	Rejected []Rejection
	// LevelReference is the median volume/cap that a level outlier is measured
	// against; NaN where fewer than 8 samples switch the rule off.
	LevelReference float64
	// StepLimit is the |ln| threshold last applied to price, cap and volume; NaN
	// where fewer than 8 accepted samples switch the rule off.
	StepLimit [3]float64
}

// MaxRejections bounds Review.Rejected.
const MaxRejections = 16

// Rule names a quality rule.
type Rule uint8

// The rules that reject values.
const (
	RuleStep Rule = iota
	RuleLevel
	RulePoll
	RuleRange
	numRules
)

var ruleNames = [numRules]string{"step", "level", "poll", "range"}

// String returns the rule's name.
func (r Rule) String() string { return nameOf(ruleNames[:], r) }

// Rejection is one value that was shown but kept out of the statistics.
type Rejection struct {
	Time   Time
	Field  Field
	Value  Decimal
	Rule   Rule
	Source Source
}

// Value returns a numeric field, 1 ≤ f ≤ NumNumeric.
func (s *Snapshot) Value(f Field) Decimal { return Decimal{Mant: s.Mant[f-1], Exp: s.Exp[f-1]} }

// Int returns the mantissa of an enum, flags, count or time field.
func (s *Snapshot) Int(f Field) int64 { return s.Mant[f-1] }

// Put stores a numeric field while the snapshot is being made and reports
// whether that changed it. It must not be called on a published snapshot.
func (s *Snapshot) Put(f Field, d Decimal) bool {
	i := f - 1
	if s.Mant[i] == d.Mant && s.Exp[i] == d.Exp {
		return false
	}
	s.Mant[i], s.Exp[i] = d.Mant, d.Exp
	return true
}

// Flags returns the token's flags.
func (s *Snapshot) Flags() Flags { return Flags(s.Mant[FieldFlags-1]) }

// Freshness returns the token's freshness class.
func (s *Snapshot) Freshness() Freshness { return Freshness(s.Mant[FieldFreshness-1]) }

// SourceTime returns the provider's time of the current values.
func (s *Snapshot) SourceTime() Time { return Time(s.Mant[FieldSourceTime-1]) }

// Source returns the provider of the current values.
func (s *Snapshot) Source() Source { return Source(s.Mant[FieldSource-1]) }

// Version returns the seq of a field's last change.
func (s *Snapshot) Version(f Field) uint64 { return s.base + uint64(s.versions[f-1]) }

// Versions returns the versions of all fields, at index field−1.
func (s *Snapshot) Versions() (v [NumFields]uint64) {
	for i, d := range s.versions {
		v[i] = s.base + uint64(d)
	}
	return v
}

// VersionBase returns the seq that every version is at or above.
func (s *Snapshot) VersionBase() uint64 { return s.base }

// Restamp sets all versions, none of which is below base: for a snapshot that
// is read back.
func (s *Snapshot) Restamp(base uint64, versions *[NumFields]uint64) {
	s.base = base
	for i, v := range versions {
		s.versions[i] = uint32(v - base)
	}
}

// Stamp sets the version of the fields to Seq while the snapshot is being made.
func (s *Snapshot) Stamp(fields Mask) {
	if fields == AllFields {
		s.base = s.Seq - 1
	}
	d := s.Seq - s.base
	if d > math.MaxUint32 {
		d = s.rebase()
	}
	for ; fields != 0; fields &= fields - 1 {
		s.versions[bits.TrailingZeros64(uint64(fields))] = uint32(d)
	}
}

// rebase moves base up, once in four thousand million ticks. Versions older
// than the new base count as the base: a resuming client may then get a value
// that it has, never miss one.
func (s *Snapshot) rebase() (d uint64) {
	base := s.Seq - math.MaxUint32/2
	up := base - s.base
	for i, v := range s.versions {
		s.versions[i] = uint32(max(uint64(v), up) - up)
	}
	s.base = base
	return s.Seq - base
}

// ChangedSince returns the fields whose version is newer than seq.
func (s *Snapshot) ChangedSince(seq uint64) Mask {
	if s.Seq <= seq {
		return 0
	}
	if seq < s.base {
		return AllFields
	}
	var m Mask
	for i, v := range s.versions {
		if uint64(v) > seq-s.base {
			m |= 1 << i
		}
	}
	return m
}

// Tombstone marks a token that was retired at a tick.
type Tombstone struct {
	ID   ID
	Seq  uint64
	Time Time
}

// Totals are sums over the whole market as of one tick. Excluded tokens count
// with their last accepted values.
type Totals struct {
	Tokens    int
	MarketCap int64 // whole USD
	Volume24h int64 // whole USD
}

// Board is the whole market as of one sealed tick: what REST and joining
// stream clients read. Immutable.
type Board struct {
	Epoch      string
	Seq        uint64
	Time       Time // engine time of the tick
	Source     Source
	Simulated  bool
	SourceTime Time // newest source time on the board
	ReceivedAt Time // of the last accepted answer
	Totals     Totals
	// Shards hold the snapshots grouped as the engine keeps them, in no
	// particular order; Shard(id) tells which group a token is in. Slices are
	// shared with other boards and must not be written to.
	Shards [][]*Snapshot
	// Index maps, per shard, an id to its position in the shard.
	Index []map[ID]int32
	// Tombstones are the tokens retired within the last 7 days, oldest first.
	Tombstones []Tombstone
}

// ShardOf returns the shard of a token among n.
func ShardOf(id ID, n int) int { return int((uint64(id) * 0x9E3779B97F4A7C15 >> 32) % uint64(n)) }

// Token returns the snapshot of a token, or nil.
func (b *Board) Token(id ID) *Snapshot {
	if len(b.Shards) == 0 {
		return nil
	}
	s := ShardOf(id, len(b.Shards))
	i, ok := b.Index[s][id]
	if !ok {
		return nil
	}
	return b.Shards[s][i]
}

// Len returns the number of tokens.
func (b *Board) Len() int {
	n := 0
	for _, s := range b.Shards {
		n += len(s)
	}
	return n
}

// All yields every snapshot.
func (b *Board) All(yield func(*Snapshot) bool) {
	for _, shard := range b.Shards {
		for _, s := range shard {
			if !yield(s) {
				return
			}
		}
	}
}
