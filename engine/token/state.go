package token

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/engine/window"
)

// stateVersion is the version of the encoding, the first byte of a blob.
const stateVersion = 1

// AppendState appends everything that the token knows except the samples of
// closed hours and its counters. A token decoded from it and fed the same
// quotes yields the same snapshots, to the bit.
func (t *Token) AppendState(dst []byte) []byte {
	dst = append(dst, stateVersion)
	for _, v := range [...]int64{
		int64(t.time), int64(t.seen), int64(t.cadence), int64(t.confirmed), int64(t.still.Since),
	} {
		dst = binary.AppendVarint(dst, v)
	}
	dst = binary.AppendUvarint(dst, t.still.Polls)
	dst = append(dst, t.stepped, byte(t.fate), byte(len(t.held)))
	for i := range t.held {
		dst = appendSample(dst, &t.held[i])
	}
	for i := range t.steps {
		dst = t.steps[i].AppendState(dst)
	}
	dst = t.level.AppendState(dst)
	dst = t.prior.AppendState(dst)
	dst = t.lows.AppendState(dst)
	dst = t.supply.AppendState(dst)
	dst = appendSnapshot(dst, t.snap)
	return t.win.AppendState(dst)
}

// Decode rebuilds a token from what AppendState wrote and the samples of its
// closed hours, oldest first. The error says what is wrong with the blob. With an
// error that is window.ErrCells the token is usable: samples of closed hours are
// missing, so that its statistics are of the samples there are.
func Decode(id market.ID, blob []byte, cells []market.Cell) (*Token, error) {
	return DecodeWith(id, nil, blob, cells)
}

// DecodeWith is Decode with thresholds, as NewWith takes them.
func DecodeWith(id market.ID, cfg *quality.Config, blob []byte, cells []market.Cell) (*Token, error) {
	c := quality.NewCursor(blob)
	if v := c.Byte(); v != stateVersion {
		return nil, fmt.Errorf("cannot decode token %d: state has version %d, not %d", id, v, stateVersion)
	}
	t := NewWith(id, cfg)
	t.time, t.seen = market.Time(c.Int()), market.Time(c.Int())
	t.cadence, t.confirmed = market.Millis(c.Int()), market.Time(c.Int())
	t.still.Since = market.Time(c.Int())
	t.still.Polls = c.Uint()
	t.decodeHeld(c)
	t.steps.DecodeState(c)
	t.level.DecodeState(c)
	t.prior.DecodeState(c)
	t.lows.DecodeState(c)
	t.supply.DecodeState(c)
	t.snap = decodeSnapshot(c, id)
	t.check(c)
	if err := c.Err(); err != nil {
		return nil, fmt.Errorf("cannot decode token %d: %w", id, err)
	}
	cellsErr := t.win.DecodeState(c.Bytes(uint64(c.Len())), cells)
	if cellsErr != nil && !errors.Is(cellsErr, window.ErrCells) {
		return nil, fmt.Errorf("cannot decode token %d: %w", id, cellsErr)
	}
	if err := t.checkOrder(); err != nil {
		return nil, fmt.Errorf("cannot decode token %d: %w", id, err)
	}
	if cellsErr != nil {
		return t, fmt.Errorf("cannot restore all of token %d: %w", id, cellsErr)
	}
	return t, nil
}

func (t *Token) decodeHeld(c *quality.Cursor) {
	var n byte
	t.stepped, t.fate, n = c.Byte(), fate(c.Byte()), c.Byte()
	if t.stepped >= 1<<quality.NumInputs || t.fate >= numFates || n > maxHeld || t.fate == fateHeld && n == 0 {
		c.Fail("hold")
		return
	}
	if n > 0 {
		t.held = make([]sample, 0, maxHeld)
	}
	for range n {
		t.held = append(t.held, decodeSample(c))
	}
}

// check refuses what no token can be: state that a Step would trip over.
func (t *Token) check(c *quality.Cursor) {
	for i := range t.steps {
		if t.stepped>>i&1 != 0 && !t.steps[i].CanRetract() {
			c.Fail("correction")
		}
	}
}

var errOrder = errors.New("impossible order of samples in state")

// checkOrder refuses times that a window would trip over.
func (t *Token) checkOrder() error {
	newest := t.win.Now()
	for i := range t.held {
		if t.held[i].time < newest {
			return errOrder
		}
		newest = t.held[i].time
	}
	if newest > t.time || t.snap == nil && newest != 0 {
		return errOrder
	}
	return nil
}

func appendSample(dst []byte, s *sample) []byte {
	dst = binary.AppendVarint(dst, int64(s.time))
	dst = append(dst, s.jumped, boolByte(s.level))
	for _, x := range s.in {
		dst = appendFloat(dst, x)
	}
	return appendFloat(dst, s.velocity)
}

func decodeSample(c *quality.Cursor) sample {
	s := sample{time: market.Time(c.Int()), jumped: c.Byte()}
	s.level = c.Byte() == 1
	for i := range s.in {
		s.in[i] = c.Float()
	}
	s.velocity = c.Float()
	if s.jumped >= 1<<quality.NumInputs {
		c.Fail("held sample")
	}
	return s
}

// appendSnapshot writes nothing but a zero for a token that has none. Versions
// are written as distances from the newest.
func appendSnapshot(dst []byte, s *market.Snapshot) []byte {
	if s == nil {
		return append(dst, 0)
	}
	dst = append(dst, 1)
	dst = binary.AppendUvarint(dst, s.Seq)
	dst = binary.AppendVarint(dst, int64(s.ReceivedAt))
	dst = binary.AppendUvarint(dst, uint64(s.Samples))
	for _, text := range [...]string{s.Info.Symbol, s.Info.Name, s.Info.Slug} {
		dst = binary.AppendUvarint(dst, uint64(len(text)))
		dst = append(dst, text...)
	}
	for i := range s.Mant {
		dst = appendDecimal(dst, market.Decimal{Mant: s.Mant[i], Exp: s.Exp[i]})
	}
	dst = binary.AppendUvarint(dst, s.Seq-s.VersionBase())
	for _, v := range s.Versions() {
		dst = binary.AppendUvarint(dst, s.Seq-v)
	}
	dst = appendDecimal(dst, s.AcceptedPrice)
	dst = appendDecimal(dst, s.AcceptedCap)
	dst = appendDecimal(dst, s.AcceptedVolume)
	return appendReview(dst, s.Review)
}

func decodeVersions(c *quality.Cursor, s *market.Snapshot) {
	span := c.Uint()
	if span > s.Seq || span > math.MaxUint32 {
		c.Fail("version base")
		return
	}
	var versions [market.NumFields]uint64
	for i := range versions {
		back := c.Uint()
		if back > span {
			c.Fail("version")
			return
		}
		versions[i] = s.Seq - back
	}
	s.Restamp(s.Seq-span, &versions)
}

func decodeSnapshot(c *quality.Cursor, id market.ID) *market.Snapshot {
	switch c.Byte() {
	case 0:
		return nil
	case 1:
	default:
		c.Fail("snapshot")
		return nil
	}
	s := &market.Snapshot{ID: id, Seq: c.Uint(), ReceivedAt: market.Time(c.Int()), Samples: uint32(c.Uint())}
	s.Info = &market.Info{Symbol: text(c), Name: text(c), Slug: text(c)}
	for i := range s.Mant {
		d := decodeDecimal(c)
		s.Mant[i], s.Exp[i] = d.Mant, d.Exp
	}
	decodeVersions(c, s)
	s.AcceptedPrice, s.AcceptedCap, s.AcceptedVolume = decodeDecimal(c), decodeDecimal(c), decodeDecimal(c)
	s.Review = decodeReview(c)
	checkSnapshot(c, s)
	return s
}

// checkSnapshot refuses values that readers index tables with.
func checkSnapshot(c *quality.Cursor, s *market.Snapshot) {
	for f := market.Field(1); f <= market.NumNumeric; f++ {
		names := market.EnumNames(f)
		if v := s.Value(f); names != nil && (v.Exp != 0 || v.Mant < 0 || v.Mant >= int64(len(names))) {
			c.Fail(f.String())
		}
	}
	if v := s.Value(market.FieldFlags); v.Exp != 0 || v.Mant < 0 || v.Mant >= 1<<market.NumFlags {
		c.Fail("flags")
	}
}

func text(c *quality.Cursor) string { return string(c.Bytes(c.Uint())) }

func appendReview(dst []byte, r *market.Review) []byte {
	if r == nil {
		return append(dst, 0)
	}
	dst = append(dst, byte(1+len(r.Rejected)))
	for _, x := range r.Rejected {
		dst = binary.AppendVarint(dst, int64(x.Time))
		dst = append(dst, byte(x.Field), byte(x.Rule), byte(x.Source))
		dst = appendDecimal(dst, x.Value)
	}
	dst = appendFloat(dst, r.LevelReference)
	for _, v := range r.StepLimit {
		dst = appendFloat(dst, v)
	}
	return dst
}

func decodeReview(c *quality.Cursor) *market.Review {
	n := int(c.Byte())
	if n == 0 {
		return nil
	}
	if n > 1+market.MaxRejections {
		c.Fail("review")
		return nil
	}
	r := &market.Review{Rejected: make([]market.Rejection, n-1)}
	for i := range r.Rejected {
		x := &r.Rejected[i]
		x.Time = market.Time(c.Int())
		x.Field, x.Rule, x.Source = market.Field(c.Byte()), market.Rule(c.Byte()), market.Source(c.Byte())
		x.Value = decodeDecimal(c)
		if x.Field == 0 || x.Field > market.NumNumeric {
			c.Fail("rejection")
		}
	}
	r.LevelReference = c.Float()
	for i := range r.StepLimit {
		r.StepLimit[i] = c.Float()
	}
	return r
}

func appendDecimal(dst []byte, d market.Decimal) []byte {
	return binary.AppendVarint(append(dst, byte(d.Exp)), d.Mant)
}

func decodeDecimal(c *quality.Cursor) market.Decimal {
	d := market.Decimal{Exp: int8(c.Byte()), Mant: c.Int()}
	if d.IsNull() && d.Mant != 0 {
		c.Fail("number")
	}
	return d
}

func appendFloat(dst []byte, f float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f))
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}
