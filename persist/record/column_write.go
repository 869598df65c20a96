package record

import (
	"math"
	"math/bits"
	"slices"
)

// plainRow is the event of a plain row's numbers; u is the row's place.
const plainRow = numColumns

// columnsOf returns 2 to 60 rows as columns.
func columnsOf(rows []Row) []byte {
	m := columns{chunk: chunk{index: -1}}
	m.scan(rows)
	scaled, plain := m.scaleAll(rows)
	events := m.code(rows, scaled, plain)
	codes, cost := bestCodes(events)
	if steady := m; m.has(hasPrice) && m.has(hasCap) {
		// The ratio takes the place of the capitalisation before the first row.
		steady.ratio = ratio(scaled, plain)
		e := steady.code(rows, scaled, plain)
		if k, c := bestCodes(e); c+16 < cost {
			m, events, codes = steady, e, k
		}
	}
	return appendEvents(m.appendHead(nil, rows, scaled, plain), events, &codes, rows)
}

// scaleAll returns the rows as integers, and which have to stand as plain numbers.
func (m *columns) scaleAll(rows []Row) (s []scaled, plain []bool) {
	s, plain = make([]scaled, len(rows)), make([]bool, len(rows))
	for i := range rows {
		var ok bool
		s[i], ok = m.scale(&rows[i])
		plain[i] = !ok
	}
	return s, plain
}

// base returns the row before the first: what the first begins with. The
// reader has the capitalisation or the ratio, so only one of them counts here.
func (m *columns) base(all []scaled, plain []bool) (b scaled) {
	i := slices.Index(plain, false)
	if i < 0 {
		return b
	}
	b.price[3], b.volume[0] = all[i].price[0], all[i].volume[0]
	if m.ratio == 0 {
		b.cap[0] = all[i].cap[0]
	}
	return b
}

// appendHead appends everything in front of the bits.
func (m *columns) appendHead(dst []byte, rows []Row, all []scaled, plain []bool) []byte {
	dst = append(dst, columnsMark+byte(len(rows)))
	present := m.present
	if m.ratio != 0 {
		present |= columnsRatio
	}
	dst = append(dst, present)
	for q := range hasVelocity {
		if m.has(q) {
			dst = append(dst, byte(m.exps[q]))
		}
	}
	b := m.base(all, plain)
	for q, v := range [hasVelocity]int64{b.price[3], b.cap[0], b.volume[0]} {
		if m.has(q) && (q != hasCap || m.ratio == 0) {
			dst = appendVarint(dst, v)
		}
	}
	if m.ratio != 0 {
		u := math.Float64bits(m.ratio) >> ratioCut
		dst = append(dst, byte(u), byte(u>>8), byte(u>>16), byte(u>>24), byte(u>>32))
	}
	dst = append(dst, controlOf(&rows[0], plain[0]))
	dst = appendUvarint(dst, uint64(usual(rows)))
	return appendUvarint(dst, uint64(rows[0].Flags))
}

// usual returns the count from which all counts are least far on average.
func usual(rows []Row) uint32 {
	var sum uint64
	for i := range rows {
		sum += uint64(rows[i].Count)
	}
	return uint32(sum / uint64(len(rows)))
}

func controlOf(r *Row, plain bool) byte {
	var control byte
	switch {
	case plain:
		return rowPlain
	case r.VWAP.IsNull() && !r.Price.Mean.IsNull():
		control = rowNoVWAP
	case r.VWAP != r.Price.Mean:
		return 0
	}
	if single(&r.Price) && single(&r.Velocity) && r.Cap.Close == r.Cap.Mean && r.Volume.Close == r.Volume.Mean {
		control |= rowSingle
	}
	return control
}

// code returns the numbers of all columns in the order in which they are written.
func (m columns) code(rows []Row, all []scaled, plain []bool) []event {
	c := coder{events: make([]event, 0, len(rows)*numColumns)}
	m.begin(m.base(all, plain))
	m.control, m.count, m.flags = controlOf(&rows[0], plain[0]), usual(rows), rows[0].Flags
	for i := range rows {
		r := &rows[i]
		control := controlOf(r, plain[i])
		c.add(colControl, uint64(control^m.control))
		c.add(colStep, uint64(r.Index-m.index-1))
		c.add(colCount, zigzag(int64(r.Count)-int64(m.count)))
		c.add(colFlags, uint64(r.Flags^m.flags))
		m.control, m.index, m.flags = control, r.Index, r.Flags
		if plain[i] {
			c.events = append(c.events, event{uint64(i), plainRow})
			continue
		}
		s := all[i]
		m.numbers(&c, &s)
		m.keep(&s)
	}
	return c.events
}

// coder takes the numbers of rows one by one.
type coder struct{ events []event }

type event struct {
	u      uint64
	column int
}

func (c *coder) add(column int, u uint64) { c.events = append(c.events, event{u, column}) }

// around codes a value that lies on either side of its prediction.
func (c *coder) around(column int, v, prediction int64) { c.add(column, zigzag(v-prediction)) }

// spread codes the numbers of a bar behind its close: high and low by how far
// they are beyond open and close.
func (c *coder) spread(column int, v *[5]int64, open int64) {
	c.around(column+1, v[0], open)
	c.add(column+2, uint64(v[1])-uint64(max(v[0], v[3])))
	c.add(column+3, uint64(min(v[0], v[3]))-uint64(v[2]))
}

// numbers codes a row that is not plain; columnReader reads it in the same order.
func (m *columns) numbers(c *coder, s *scaled) {
	single := m.control&rowSingle != 0
	if m.has(hasPrice) {
		c.around(colPrice, s.price[3], m.prev.price[3])
		if !single {
			c.spread(colPrice, &s.price, m.prev.price[3])
			c.around(colPrice+4, s.price[4], inner(&s.price))
			if m.control&rowNoVWAP == 0 {
				c.around(colVWAP, s.vwap, s.price[4])
			}
		}
	}
	if m.has(hasVolume) {
		c.around(colVolume, s.volume[0], m.prev.volume[0])
		if !single {
			c.around(colVolume+1, s.volume[1], middle(m.prev.volume[0], s.volume[0]))
		}
	}
	if m.has(hasCap) {
		c.around(colCap, s.cap[0], m.closeCap(s))
		if !single {
			c.around(colCap+1, s.cap[1], m.meanCap(s))
		}
	}
	if m.has(hasVelocity) {
		c.around(colSpeed, s.velocity[3], m.speed(s.volume[0], s.cap[0], s.price[3], m.prev.velocity[3]))
		if !single {
			c.spread(colSpeed, &s.velocity, m.openSpeed(s))
			c.around(colSpeed+4, s.velocity[4], m.speed(s.volume[1], s.cap[1], s.price[4], inner(&s.velocity)))
		}
	}
}

// bestCodes returns the code of every column and the bits of all of them.
func bestCodes(events []event) (codes [numColumns]uint8, cost int) {
	var us [numColumns][columnsMost]uint64
	var ns [numColumns]int
	for _, e := range events {
		if e.column != plainRow {
			us[e.column][ns[e.column]] = e.u
			ns[e.column]++
		}
	}
	for i := range codes {
		code, bits := bestCode(us[i][:ns[i]])
		codes[i], cost = code, cost+bits
	}
	return codes, cost
}

// bestCode returns the cheapest code of a column and its bits. The best
// parameter lies near the length of the median.
func bestCode(us []uint64) (code uint8, cost int) {
	var lengths [65]int
	for _, u := range us {
		lengths[bits.Len64(u)]++
	}
	zeros := lengths[0]
	if zeros == len(us) {
		return 0, 0
	}
	median := 0
	for n := zeros; n <= (len(us)+zeros)/2 && median < 64; n += lengths[median] {
		median++
	}
	cost = math.MaxInt
	for k := max(min(median, riceMax)-3, 0); k <= min(median+1, riceMax); k++ {
		if sum := costOf(us, uint(k)); sum < cost {
			code, cost = uint8(k+1), sum
		}
		if zeros == 0 {
			continue
		}
		if sum := costApart(us, uint(k)); sum < cost {
			code, cost = uint8(k+codeApart), sum
		}
	}
	return code, cost
}

func costOf(us []uint64, k uint) (sum int) {
	for _, u := range us {
		sum += riceCost(u, k)
	}
	return sum
}

func costApart(us []uint64, k uint) int {
	sum := len(us)
	for _, u := range us {
		if u != 0 {
			sum += riceCost(u-1, k)
		}
	}
	return sum
}

func appendEvents(dst []byte, events []event, codes *[numColumns]uint8, rows []Row) []byte {
	w := bitWriter{b: dst}
	for _, code := range codes {
		switch code := uint64(code); {
		case code == 0:
			w.put(0, 1)
		case code < codeApart:
			w.put(1|(code-1)<<2, 7)
		default:
			w.put(3|(code-codeApart)<<2, 7)
		}
	}
	for _, e := range events {
		switch {
		case e.column == plainRow:
			w.align()
			w.b = appendPlain(w.b, &rows[e.u])
		case codes[e.column] != 0:
			w.number(e.u, codes[e.column])
		}
	}
	w.align()
	return w.b
}

// ratio returns the ratio of capitalisation to price that gives every row its
// capitalisation, or about one where none does; 0 if there is none.
func ratio(all []scaled, plain []bool) float64 {
	low, high, caps, prices := 0.0, math.Inf(1), 0.0, 0.0
	for i := range all {
		p, c := float64(all[i].price[3]), float64(all[i].cap[0])
		if plain[i] || p <= 0 || c <= 0 {
			continue
		}
		low, high = max(low, (c-0.5)/p), min(high, (c+0.5)/p)
		caps, prices = caps+c, prices+p
	}
	if prices == 0 {
		return 0
	}
	r := caps / prices
	if low < high {
		r = low + (high-low)/2
	}
	return math.Float64frombits(math.Float64bits(r) &^ (1<<ratioCut - 1))
}
