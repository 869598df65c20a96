package window

import (
	"errors"
	"fmt"
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Errors of DecodeState.
var (
	// ErrState marks a blob that is not a window's state. The window is as before.
	ErrState = errors.New("not a window state")
	// ErrCells marks closed cells that are not the state's. If they are in order
	// the window holds what was given, with sums made from that, and may be used:
	// only its outputs are not those of the window that was saved.
	ErrCells = errors.New("samples do not belong to the window state")
)

// The state, little-endian: version u8, phase u16, closed cells u16, directions
// 5×u8, newest sample (time i64, price, volume, velocity f32), volatility (time
// i64, price f64, variance f64), 7d base (time i64, velocity f32), per trend
// period (n u32, origin i64, Σt, Σt², Σv, Σtv, peak f64), per VWAP period (Σpw,
// Σw, their peaks f64), number of closed minutes of the open hour u8, and each
// of them (ms in the hour u32, price, volume, velocity f32), oldest first.
const (
	stateVersion = 1
	stateSize    = 1 + 2 + 2 + 5 + (8 + 12) + 24 + 12 + 5*(4+8+5*8) + 3*4*8 + 1
	stateCell    = 4 + 12
)

// AppendState appends everything but the samples of closed hours, bit-exact.
func (w *Window) AppendState(dst []byte) []byte {
	dst = le.AppendUint16(append(dst, stateVersion), w.phase)
	dst = le.AppendUint16(dst, uint16(w.coarse.cells+w.fine.cells))
	for _, d := range w.dirs {
		dst = append(dst, byte(d))
	}
	dst = appendValues(le.AppendUint64(dst, uint64(w.open.t)), &w.open)
	dst = le.AppendUint64(dst, uint64(w.vol.refTime))
	dst = appendFloats(dst, w.vol.refPrice, w.vol.variance)
	base := &w.trends[market.Period7d]
	dst = le.AppendUint64(dst, uint64(base.baseT))
	dst = le.AppendUint32(dst, math.Float32bits(base.baseV))
	for p := range w.trends {
		a := &w.trends[p]
		dst = le.AppendUint32(dst, uint32(a.n))
		dst = le.AppendUint64(dst, uint64(a.origin))
		dst = appendFloats(dst, a.st, a.stt, a.sv, a.stv, a.peak)
	}
	for i := range w.vwaps {
		a := &w.vwaps[i]
		dst = appendFloats(dst, a.pw, a.w, a.peakPW, a.peakW)
	}
	return w.appendOpenHour(dst)
}

func (w *Window) appendOpenHour(dst []byte) []byte {
	count := len(dst)
	dst = append(dst, 0)
	start := w.open.t / hour * hour
	at := w.fine.last()
	mark := at
	for c, ok := w.fine.prev(&at); ok && c.t >= start; c, ok = w.fine.prev(&at) {
		mark = at
	}
	for c, ok := w.fine.next(&mark); ok; c, ok = w.fine.next(&mark) {
		dst[count]++
		dst = appendValues(le.AppendUint32(dst, uint32(c.t-start)), &c)
	}
	return dst
}

func appendValues(dst []byte, c *cell) []byte {
	dst = le.AppendUint32(dst, math.Float32bits(c.price))
	dst = le.AppendUint32(dst, math.Float32bits(c.volume))
	return le.AppendUint32(dst, math.Float32bits(c.veloc))
}

func appendFloats(dst []byte, fs ...float64) []byte {
	for _, f := range fs {
		dst = le.AppendUint64(dst, math.Float64bits(f))
	}
	return dst
}

// DecodeState sets w to the state of blob, which must be all of what
// AppendState appended, and to the retained samples of the closed hours. From
// then on w behaves, to the bit, as the window that was saved; no hour is dirty,
// and the thresholds are those that w was made with.
//
// closed must hold, oldest first, every hour before the one that the state's
// newest sample is in, back to 7 days before that sample: the hours that begin at
// most 24 h before that hour at 1 minute (the last sample of each), those
// before at 1 minute or at 5 minutes (the last of each). Samples that are older
// than 7 days may be there and are ignored. Errors: ErrState, ErrCells.
func (w *Window) DecodeState(blob []byte, closed []market.Cell) error {
	r := reader{left: blob}
	next, saved, err := r.state(w.cfg)
	if err != nil {
		return err
	}
	if err := next.fill(closed); err != nil {
		return err
	}
	for _, c := range saved.openHour {
		next.fine.push(&c, c.t/minute)
	}
	next.locate()
	base := &next.trends[market.Period7d]
	base.baseT, base.baseV = saved.baseT, saved.baseV
	*w = next
	if err := w.match(saved); err != nil {
		for p := range market.NumPeriods {
			w.resum(p)
		}
		return err
	}
	for p := range w.trends {
		w.trends[p].sums = saved.trends[p]
	}
	w.vwaps = saved.vwaps
	return nil
}

// match compares the numbers of cells with those that the sums rest on.
func (w *Window) match(saved *savedState) error {
	if got := int(w.fine.cells + w.coarse.cells); got != saved.cells {
		return fmt.Errorf("cannot restore a window of %d closed samples from %d: %w", saved.cells, got, ErrCells)
	}
	counts := w.countAll()
	for p := range market.NumPeriods {
		if got, want := counts[p], saved.trends[p].n; got != want {
			return fmt.Errorf("cannot restore the %s trend of %d samples from %d: %w", p, want, got, ErrCells)
		}
	}
	return nil
}

// savedState is the part of a state that is compared with the cells first.
type savedState struct {
	cells    int
	openHour []cell
	baseT    int64
	baseV    float32
	trends   [market.NumPeriods]sums
	vwaps    [3]vwapSums
}

// reader takes a state apart. After the first error it yields zeros.
type reader struct {
	left []byte
	err  error
}

func (r *reader) fail(what string, v any) {
	if r.err == nil {
		r.err = fmt.Errorf("cannot decode %s %v: %w", what, v, ErrState)
	}
}

func (r *reader) u8() (v byte) {
	v, r.left = r.left[0], r.left[1:]
	return v
}

func (r *reader) u16() (v uint16) {
	v, r.left = le.Uint16(r.left), r.left[2:]
	return v
}

func (r *reader) u32() (v uint32) {
	v, r.left = le.Uint32(r.left), r.left[4:]
	return v
}

// time reads a time of at most latest.
func (r *reader) time(what string, latest int64) int64 {
	v := int64(le.Uint64(r.left))
	r.left = r.left[8:]
	if v < 0 || v > latest {
		r.fail(what, v)
	}
	return v
}

// finite reads a number that is neither NaN nor infinite.
func (r *reader) finite(what string) float64 {
	v := r.float()
	if math.IsNaN(v) || math.IsInf(v, 0) {
		r.fail(what, v)
	}
	return v
}

func (r *reader) float() float64 {
	v := math.Float64frombits(le.Uint64(r.left))
	r.left = r.left[8:]
	return v
}

// value reads a retained value.
func (r *reader) value(what string) float32 {
	v := math.Float32frombits(r.u32())
	if v < 0 || math.IsInf(float64(v), 0) {
		r.fail(what, v)
	}
	return v
}

func (r *reader) cell(t int64) cell {
	return cell{t: t, price: r.value("price"), volume: r.value("volume"), veloc: r.value("velocity")}
}

// state reads the whole blob into a window without cells.
func (r *reader) state(cfg Config) (w Window, s *savedState, err error) {
	if len(r.left) < stateSize || r.left[0] != stateVersion || len(r.left) != stateSize+stateCell*int(r.left[stateSize-1]) {
		r.fail("the head or length of a blob of bytes:", len(r.left))
		return w, nil, r.err
	}
	r.u8()
	w, s = New(cfg), &savedState{}
	if w.phase = r.u16(); w.phase >= resumCycle {
		r.fail("phase", w.phase)
	}
	s.cells = int(r.u16())
	for p := range w.dirs {
		if w.dirs[p] = market.Direction(r.u8()); w.dirs[p] >= market.NumDirections {
			r.fail("direction", w.dirs[p])
		}
	}
	w.open = r.cell(r.time("time of the newest sample", maxTime))
	w.dirtyFrom = w.open.t / hour * hour
	w.vol = volatility{refTime: r.time("time of the last return", w.open.t), refPrice: r.finite("price of the last return"), variance: r.float()}
	if w.vol.variance < 0 || w.vol.refPrice < 0 || (w.vol.refPrice == 0) != (w.vol.refTime == 0) {
		r.fail("volatility", w.vol)
	}
	s.baseT, s.baseV = r.time("time of the 7d base", max(0, w.open.t-span)), r.value("velocity of the 7d base")
	r.sums(s, w.open.t)
	r.openHour(s, w.open.t)
	return w, s, r.err
}

func (r *reader) sums(s *savedState, now int64) {
	for p := range s.trends {
		a := &s.trends[p]
		a.n, a.origin = int32(r.u32()), r.time("origin", now)
		for _, f := range []*float64{&a.st, &a.stt, &a.sv, &a.stv, &a.peak} {
			*f = r.finite("sum of a trend")
		}
	}
	for i := range s.vwaps {
		a := &s.vwaps[i]
		for _, f := range []*float64{&a.pw, &a.w, &a.peakPW, &a.peakW} {
			*f = r.finite("sum of a VWAP")
		}
	}
}

func (r *reader) openHour(s *savedState, now int64) {
	start, last := now/hour*hour, int64(0)
	for range r.u8() {
		c := r.cell(start + int64(r.u32()))
		if c.t/minute <= last/minute || c.t/minute >= now/minute {
			r.fail("time in the open hour", c.t)
		}
		s.openHour = append(s.openHour, c)
		last = c.t
	}
}

// maxTime keeps arithmetic on times far from overflow; it is in the year 73000.
const maxTime = 1 << 51
