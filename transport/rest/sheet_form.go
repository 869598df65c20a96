package rest

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/velocimeter/velocimeter/engine/market"
)

// SheetRow is one point of a file that a Sheet printed, or that was made like one.
type SheetRow struct {
	Line   int // from 1
	ID     market.ID
	Symbol string // "" unknown
	Point  market.Point
}

// SheetError says what is wrong with a line.
type SheetError struct {
	Line   int
	Column string // "" where it is the line as a whole
	What   string // and how to mend it
}

func (e *SheetError) Error() string {
	if e.Column == "" {
		return "line " + strconv.Itoa(e.Line) + ": " + e.What
	}
	return "line " + strconv.Itoa(e.Line) + ": " + e.Column + ": " + e.What
}

// sheetField is one column of a file.
type sheetField struct {
	name string // CSV column
	path string // NDJSON member, with a dot where it is inside of another
	// read takes a text in; quoted says that it was a JSON string. null is an empty
	// cell, or null.
	read     func(r *SheetRow, text []byte, quoted, null bool) error
	optional bool
}

// sheetForm is what the lines of a granularity hold.
type sheetForm struct {
	granularity market.Granularity
	fields      []sheetField
	byName      map[string]int
	byPath      map[string]int
	groups      map[string]bool // members that hold members
	required    uint32
}

var (
	errNoNumber = errors.New("is not a number; write digits with a point, such as 0.0123, or nothing (null) where there is no value")
	errTooLarge = errors.New("is outside of 1e-100 to 1e100")
	errNegative = errors.New("is negative")
	errNull     = errors.New("is missing a value")
	errQuoted   = errors.New("is a string; write the number without quotes")
)

func newSheetForm(g market.Granularity) *sheetForm {
	f := &sheetForm{granularity: g, byName: map[string]int{}, byPath: map[string]int{}, groups: map[string]bool{}}
	f.add("id", readID)
	f.add("symbol", readSymbol)
	f.fields[1].optional = true
	f.add("time", f.readTime)
	if g == market.GranularityRaw {
		f.addRaw()
	} else {
		f.addBars()
	}
	for i := range f.fields {
		c := &f.fields[i]
		f.byName[c.name], f.byPath[c.path] = i, i
		if group, _, inside := strings.Cut(c.path, "."); inside {
			f.groups[group] = true
		}
		if !c.optional {
			f.required |= 1 << i
		}
	}
	return f
}

func (f *sheetForm) add(path string, read func(*SheetRow, []byte, bool, bool) error) {
	f.fields = append(f.fields, sheetField{name: strings.ReplaceAll(path, ".", "_"), path: path, read: read})
}

func (f *sheetForm) addNumber(path string, at func(p *market.Point) *market.Decimal) {
	f.add(path, func(r *SheetRow, text []byte, quoted, null bool) error {
		d := at(&r.Point)
		*d = market.Null
		if null {
			return nil
		}
		if quoted {
			return errQuoted
		}
		v, _, err := market.ParseDecimal(text)
		switch {
		case errors.Is(err, market.ErrRange):
			return errTooLarge
		case err != nil:
			return errNoNumber
		case v.Mant < 0:
			return errNegative
		}
		*d = v
		return nil
	})
}

func (f *sheetForm) addRaw() {
	f.add("seq", func(r *SheetRow, text []byte, quoted, null bool) (err error) {
		if null {
			return nil
		}
		r.Point.Seq, err = readCount(text, quoted, math.MaxUint64)
		return err
	})
	f.addNumber("price", func(p *market.Point) *market.Decimal { return &p.Price.Close })
	f.addNumber("market_cap", func(p *market.Point) *market.Decimal { return &p.Cap.Close })
	f.addNumber("volume_24h", func(p *market.Point) *market.Decimal { return &p.Volume.Close })
	f.addNumber("velocity", func(p *market.Point) *market.Decimal { return &p.Velocity.Close })
	f.add("flags", readFlags)
	f.fields[3].optional, f.fields[len(f.fields)-1].optional = true, true
}

func (f *sheetForm) addBars() {
	f.add("count", func(r *SheetRow, text []byte, quoted, null bool) error {
		if null {
			return errNull
		}
		n, err := readCount(text, quoted, math.MaxUint32)
		if err == nil && n == 0 {
			err = errors.New("is 0; a point is made of one sample at least")
		}
		r.Point.Count = uint32(n)
		return err
	})
	bar := func(group string, b func(p *market.Point) *market.Bar) {
		f.addNumber(group+".open", func(p *market.Point) *market.Decimal { return &b(p).Open })
		f.addNumber(group+".high", func(p *market.Point) *market.Decimal { return &b(p).High })
		f.addNumber(group+".low", func(p *market.Point) *market.Decimal { return &b(p).Low })
		f.addNumber(group+".close", func(p *market.Point) *market.Decimal { return &b(p).Close })
		f.addNumber(group+".mean", func(p *market.Point) *market.Decimal { return &b(p).Mean })
	}
	bar("price", func(p *market.Point) *market.Bar { return &p.Price })
	f.addNumber("price.vwap", func(p *market.Point) *market.Decimal { return &p.VWAP })
	f.addNumber("market_cap.last", func(p *market.Point) *market.Decimal { return &p.Cap.Close })
	f.addNumber("market_cap.mean", func(p *market.Point) *market.Decimal { return &p.Cap.Mean })
	f.addNumber("volume_24h.last", func(p *market.Point) *market.Decimal { return &p.Volume.Close })
	f.addNumber("volume_24h.mean", func(p *market.Point) *market.Decimal { return &p.Volume.Mean })
	bar("velocity", func(p *market.Point) *market.Bar { return &p.Velocity })
}

func readCount(text []byte, quoted bool, most uint64) (uint64, error) {
	if quoted {
		return 0, errQuoted
	}
	n := uint64(0)
	if len(text) == 0 || len(text) > 1 && text[0] == '0' {
		return 0, errors.New("is not a whole number")
	}
	for _, c := range text {
		if c-'0' > 9 {
			return 0, errors.New("is not a whole number")
		}
		d := uint64(c - '0')
		if n > (most-d)/10 {
			return 0, errors.New("is above " + strconv.FormatUint(most, 10))
		}
		n = n*10 + d
	}
	return n, nil
}

func readID(r *SheetRow, text []byte, quoted, null bool) error {
	n, err := readCount(text, quoted, math.MaxUint32)
	if null || err != nil || n == 0 {
		return errors.New("is not an id from 1 to " + strconv.FormatUint(math.MaxUint32, 10))
	}
	r.ID = market.ID(n)
	return nil
}

// maxSheetSymbol bounds a symbol, in bytes.
const maxSheetSymbol = 256

func readSymbol(r *SheetRow, text []byte, _, null bool) error {
	if len(text) > maxSheetSymbol {
		return errors.New("is longer than " + strconv.Itoa(maxSheetSymbol) + " bytes")
	}
	if null {
		text = nil
	}
	if !utf8.Valid(text) {
		return errors.New("is not UTF-8")
	}
	if string(text) != r.Symbol { // most lines repeat the one before
		r.Symbol = string(text)
	}
	return nil
}

func (f *sheetForm) readTime(r *SheetRow, text []byte, _, null bool) error {
	t, ok := ParseInstant(string(text))
	if null || !ok {
		return errors.New("is neither RFC 3339, such as 2026-11-20T18:00:00Z, nor milliseconds since 1970")
	}
	if alignDown(t, f.granularity.Width()) != t {
		return errors.New("is not the beginning of a stretch of " + f.granularity.String() + "; is the file of another granularity?")
	}
	r.Point.Time = t
	return nil
}

// readFlags takes the names of flags, with a bar between them.
func readFlags(r *SheetRow, text []byte, _, null bool) error {
	if null || len(text) == 0 {
		return nil
	}
names:
	for name := range strings.SplitSeq(string(text), "|") {
		for bit, known := range market.FlagNames() {
			if name == known {
				r.Point.Flags |= 1 << bit
				continue names
			}
		}
		return errors.New("holds an unknown flag " + strconv.Quote(name))
	}
	return nil
}

// check looks at a whole row.
func (f *sheetForm) check(r *SheetRow) *SheetError {
	p := &r.Point
	fail := func(column, what string) *SheetError { return &SheetError{Line: r.Line, Column: column, What: what} }
	if f.granularity == market.GranularityRaw {
		p.Count = 1
	} else {
		p.Flags, p.Seq = 0, 0
		for _, b := range []struct {
			name string
			bar  *market.Bar
		}{{"price", &p.Price}, {"velocity", &p.Velocity}} {
			if what := checkBar(b.bar); what != "" {
				return fail(b.name, what)
			}
		}
		switch {
		case p.Price.Close.IsNull() && !p.VWAP.IsNull():
			return fail("price", "there is a vwap without prices")
		case p.Cap.Close.IsNull() != p.Cap.Mean.IsNull():
			return fail("market_cap", "one of last and mean is missing")
		case p.Volume.Close.IsNull() != p.Volume.Mean.IsNull():
			return fail("volume_24h", "one of last and mean is missing")
		}
	}
	if p.Count == 1 {
		if what := checkVelocity(p); what != "" {
			return fail("velocity", what)
		}
	}
	return nil
}

func checkBar(b *market.Bar) string {
	nulls := 0
	all := [...]market.Decimal{b.Open, b.High, b.Low, b.Close, b.Mean}
	for _, d := range all {
		if d.IsNull() {
			nulls++
		}
	}
	switch {
	case nulls == len(all):
		return ""
	case nulls > 0:
		return "some of open, high, low, close, mean are missing; give all of them, or none"
	case b.High.Cmp(b.Low) < 0:
		return "high " + b.High.String() + " is below low " + b.Low.String()
	case b.Open.Cmp(b.High) > 0 || b.Open.Cmp(b.Low) < 0:
		return "open " + b.Open.String() + " is outside of " + b.Low.String() + " to " + b.High.String()
	case b.Close.Cmp(b.High) > 0 || b.Close.Cmp(b.Low) < 0:
		return "close " + b.Close.String() + " is outside of " + b.Low.String() + " to " + b.High.String()
	}
	// A mean is rounded by itself.
	const slack = 1e-6
	if m := b.Mean.Float(); m > b.High.Float()*(1+slack)+1e-9 || m < b.Low.Float()*(1-slack)-1e-9 {
		return "mean " + b.Mean.String() + " is outside of " + b.Low.String() + " to " + b.High.String()
	}
	return ""
}

// checkVelocity holds the velocity of a single sample against volume / cap. Where
// the cap was not reported there is none to compare with.
func checkVelocity(p *market.Point) string {
	const digits, slack = 6, 2e-5 // of totals in history
	volume, by := p.Volume.Close.RoundSignificant(digits), p.Cap.Close.RoundSignificant(digits)
	if volume.IsNull() || !by.Positive() {
		return ""
	}
	want := volume.Float() / by.Float()
	got := p.Velocity.Close
	if got.IsNull() && want < 1e90 || !got.IsNull() && math.Abs(got.Float()-want) > 1e-9+slack*want {
		return got.String() + " is not volume_24h / market_cap, " + market.Significant(want, 9).String()
	}
	return ""
}
