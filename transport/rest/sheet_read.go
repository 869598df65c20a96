package rest

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/velocimeter/velocimeter/engine/market"
)

// maxSheetLine bounds a line, so the memory that reading takes.
const maxSheetLine = 64 << 10

// SheetReader reads what a Sheet prints, NDJSON or CSV, whichever it finds. Rows
// come by ascending id, and those of a token in order of time, as they are
// printed. Lines of gaps are passed over.
type SheetReader struct {
	in    *bufio.Reader
	form  *sheetForm
	line  int // lines read so far
	gaps  int
	begun bool
	json  bool
	order []int // fields by CSV column
	held  []byte
	text  []byte // scratch
	row   SheetRow
	last  SheetRow // the newest good row's id and time
	end   error
}

// NewSheetReader reads points of a granularity.
func NewSheetReader(from io.Reader, g market.Granularity) *SheetReader {
	return &SheetReader{in: bufio.NewReaderSize(from, maxSheetLine), form: newSheetForm(g)}
}

// Gaps returns how many lines of gaps were passed over.
func (r *SheetReader) Gaps() int { return r.gaps }

// Next returns the next row, valid until the next call, or io.EOF. After a
// SheetError the next call goes on behind the line, or ends where that cannot be;
// any other error stays.
func (r *SheetReader) Next() (*SheetRow, error) {
	if r.end != nil {
		return nil, r.end
	}
	if !r.begun {
		if err := r.begin(); err != nil {
			return nil, r.over(err)
		}
	}
	return r.next()
}

func (r *SheetReader) next() (*SheetRow, error) {
	for {
		line, err := r.readLine()
		if err != nil {
			return nil, r.over(err)
		}
		r.row.Line, r.row.Point.Flags, r.row.Point.Seq = r.line, 0, 0
		var bad *SheetError
		gap := false
		if r.json {
			gap, bad = r.readJSON(line)
		} else {
			bad = r.readCSV(line)
		}
		if bad == nil && !gap {
			bad = r.form.check(&r.row)
		}
		if bad == nil && !gap {
			bad = r.inOrder()
		}
		switch {
		case bad != nil:
			return nil, bad
		case gap:
			r.gaps++
			continue
		}
		return &r.row, nil
	}
}

// over ends the reading: what follows a mistake that nothing can be read behind
// is the end.
func (r *SheetReader) over(err error) error {
	r.end = err
	if _, wrong := errors.AsType[*SheetError](err); wrong {
		r.end = io.EOF
	}
	return err
}

func (r *SheetReader) fail(column, what string) *SheetError {
	return &SheetError{Line: r.line, Column: column, What: what}
}

// inOrder holds a row against the one before.
func (r *SheetReader) inOrder() *SheetError {
	id, at := r.row.ID, r.row.Point.Time
	switch {
	case id < r.last.ID:
		return r.fail("id", "token "+strconv.FormatUint(uint64(id), 10)+" comes after token "+strconv.FormatUint(uint64(r.last.ID), 10)+
			" of line "+strconv.Itoa(r.last.Line)+"; sort the rows by id and then by time")
	case id == r.last.ID && at < r.last.Point.Time:
		return r.fail("time", "is before that of line "+strconv.Itoa(r.last.Line)+"; sort the rows by id and then by time")
	case id == r.last.ID && at == r.last.Point.Time:
		return r.fail("time", "is that of line "+strconv.Itoa(r.last.Line)+" again; leave one of the two rows out")
	}
	r.last.ID, r.last.Line, r.last.Point.Time = id, r.line, at
	return nil
}

// begin finds out what the file holds, and reads the header of CSV.
func (r *SheetReader) begin() error {
	r.begun = true
	head, _ := r.in.Peek(3) // what is wrong comes again when lines are read
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		_, _ = r.in.Discard(3)
	case bytes.HasPrefix(head, []byte("\xff\xfe")), bytes.HasPrefix(head, []byte("\xfe\xff")):
		return &SheetError{Line: 1, What: "the file is UTF-16; save it as UTF-8"}
	}
	head, _ = r.in.Peek(1)
	if len(head) == 0 || head[0] == '{' {
		r.json = true
		return nil
	}
	line, err := r.readLine()
	if err != nil {
		return err
	}
	return r.readHeader(line)
}

// readHeader learns in which order the columns come.
func (r *SheetReader) readHeader(line []byte) error {
	var seen uint32
	cells, ok := splitCells(nil, line)
	if !ok {
		return r.fail("", "the header holds a stray quote")
	}
	if len(cells) == 1 && bytes.ContainsAny(line, ";\t") {
		return r.fail("", "the columns are not separated by commas; write commas")
	}
	for _, name := range cells {
		i, known := r.form.byName[string(name)]
		switch {
		case !known && r.otherForm(cells):
			return r.fail("", "the header is of another granularity: raw files have a column price, all others price_open, price_high and so on")
		case !known:
			return r.fail("", "the header holds an unknown column "+strconv.Quote(clip(name))+"; known are "+r.names(math.MaxUint32))
		case seen>>i&1 != 0:
			return r.fail("", "the header holds column "+string(name)+" twice")
		}
		seen |= 1 << i
		r.order = append(r.order, i)
	}
	if missing := r.form.required &^ seen; missing != 0 {
		return r.fail("", "the header lacks "+r.names(missing))
	}
	return nil
}

// otherForm reports whether a header is that of raw points where it should be
// that of others, or the other way round.
func (r *SheetReader) otherForm(cells [][]byte) bool {
	mark := "price"
	if r.form.granularity == market.GranularityRaw {
		mark = "price_open"
	}
	return slices.ContainsFunc(cells, func(c []byte) bool { return string(c) == mark })
}

func (r *SheetReader) names(set uint32) string {
	var names []string
	for i := range r.form.fields {
		if set>>i&1 != 0 {
			if r.json {
				names = append(names, r.form.fields[i].path)
			} else {
				names = append(names, r.form.fields[i].name)
			}
		}
	}
	return strings.Join(names, ", ")
}

func clip(b []byte) string { return string(b[:min(len(b), 40)]) }

// readLine returns a line without its end. A line of CSV goes on where a quote is open.
func (r *SheetReader) readLine() ([]byte, error) {
	r.held = r.held[:0]
	first := r.line + 1
	for {
		part, err := r.in.ReadSlice('\n')
		if len(part) > 0 {
			r.line++
		}
		switch {
		case len(r.held) > 0 && (err != nil || len(r.held)+len(part) > maxSheetLine):
			return nil, &SheetError{Line: first, What: "a quote is opened and not closed"}
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, r.fail("", "the line is longer than "+strconv.Itoa(maxSheetLine)+" bytes")
		case errors.Is(err, io.EOF) && len(part) > 0:
			return nil, r.fail("", "the last line has no line end: the file may have been cut off; add one if it is whole")
		case err != nil:
			return nil, err
		}
		if len(r.held) > 0 || !r.json && bytes.Count(part, quote)%2 != 0 {
			r.held = append(r.held, part...)
			part = r.held
		}
		if r.json || bytes.Count(part, quote)%2 == 0 {
			part = part[:len(part)-1]
			return bytes.TrimSuffix(part, []byte("\r")), nil
		}
	}
}

var quote = []byte{'"'}

// readCSV takes one line in.
func (r *SheetReader) readCSV(line []byte) *SheetError {
	n := 0
	for more := true; more; n++ {
		if n == len(r.order) {
			return r.fail("", "the line has more cells than the header has columns ("+strconv.Itoa(n)+")")
		}
		var cell []byte
		var ok bool
		cell, line, more, ok = r.cell(line)
		f := &r.form.fields[r.order[n]]
		if !ok {
			return r.fail(f.name, "holds a stray quote")
		}
		if err := f.read(&r.row, cell, false, len(cell) == 0); err != nil {
			return r.fail(f.name, strconv.Quote(clip(cell))+" "+err.Error())
		}
	}
	if n < len(r.order) {
		return r.fail("", "the line has "+strconv.Itoa(n)+" cells, the header "+strconv.Itoa(len(r.order))+" columns")
	}
	return nil
}

// cell cuts the first cell off; the result is valid until the next call.
func (r *SheetReader) cell(line []byte) (cell, rest []byte, more, ok bool) {
	if len(line) == 0 || line[0] != '"' {
		cell, rest, more = bytes.Cut(line, []byte{','})
		return cell, rest, more, !bytes.Contains(cell, quote)
	}
	r.text = r.text[:0]
	for i := 1; i < len(line); i++ {
		switch {
		case line[i] != '"':
			r.text = append(r.text, line[i])
		case i+1 < len(line) && line[i+1] == '"':
			r.text = append(r.text, '"')
			i++
		case i+1 == len(line):
			return r.text, nil, false, true
		default:
			return r.text, line[i+2:], true, line[i+1] == ','
		}
	}
	return nil, nil, false, false
}

// splitCells takes a whole line apart.
func splitCells(dst [][]byte, line []byte) ([][]byte, bool) {
	var r SheetReader
	for more := true; more; {
		var cell []byte
		var ok bool
		if cell, line, more, ok = r.cell(line); !ok {
			return nil, false
		}
		dst = append(dst, bytes.Clone(cell))
	}
	return dst, true
}
