package persist

import (
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// importLine is a row of the file.
type importLine struct {
	line int
	at   market.Time
	row  record.Row
}

// dayRows are the rows of a token's day, of every granularity that is stored. A
// row that is not there has no count.
type dayRows struct {
	minutes [24 * 60]record.Row
	fives   [24 * 12]record.Row
	hours   [24]record.Row
	day     record.Row
}

// importUnit is one day of one token (32 days of daily rows).
type importUnit struct {
	i     *Import
	id    market.ID
	start market.Time
	rows  []importLine

	had, has dayRows // before, after
	fine     bool    // minutes and fives are loaded
	months   [monthDays]record.Row
	lines    [24 * 12]int // first line that changed a stretch of 5 minutes
	hour     [24]int      // or an hour
	firstAny int
	dirty    struct {
		minutes, fives [24]bool
		hours, day     bool
	}
}

func (u *importUnit) run() error {
	if u.i.o.Granularity == market.Granularity1d {
		return u.runMonth()
	}
	if err := u.load(); err != nil {
		return err
	}
	for n := range u.rows {
		if err := u.take(&u.rows[n]); err != nil {
			return err
		}
	}
	u.derive()
	if !u.i.o.Write || u.i.err != nil {
		return u.i.err
	}
	return u.write()
}

// load reads what is there.
func (u *importUnit) load() error {
	if u.fine || u.i.o.Granularity < market.Granularity1h {
		clearRows(u.had.minutes[:])
		clearRows(u.had.fives[:])
	}
	clearRows(u.had.hours[:])
	u.had.day.Count = 0
	u.fine = false
	clear(u.lines[:])
	clear(u.hour[:])
	u.dirty.minutes, u.dirty.fives, u.dirty.hours, u.dirty.day = [24]bool{}, [24]bool{}, false, false
	if u.i.o.Granularity < market.Granularity1h {
		if err := u.loadFine(); err != nil {
			return err
		}
	}
	if err := u.read(market.Granularity1h, u.had.hours[:]); err != nil {
		return err
	}
	if err := u.read(market.Granularity1d, []record.Row{{}}); err != nil {
		return err
	}
	u.has.hours, u.has.day = u.had.hours, u.had.day
	return nil
}

func clearRows(rows []record.Row) {
	for n := range rows {
		rows[n].Count = 0
	}
}

// loadFine reads minutes and 5 minutes.
func (u *importUnit) loadFine() error {
	if u.fine {
		return nil
	}
	u.fine = true
	if err := u.read(market.Granularity1m, u.had.minutes[:]); err != nil {
		return err
	}
	if err := u.read(market.Granularity5m, u.had.fives[:]); err != nil {
		return err
	}
	u.has.minutes, u.has.fives = u.had.minutes, u.had.fives
	return nil
}

// read reads the rows of the day.
func (u *importUnit) read(g market.Granularity, into []record.Row) error {
	p := u.i.p
	if p == nil {
		return nil
	}
	p.id = u.id
	return p.stream(g, u.start, u.start.Add(market.Day), func(t market.Time, r *record.Row) error {
		if g == market.Granularity1d {
			u.had.day = *r
			return nil
		}
		into[t.Sub(u.start)/g.Width()] = *r
		return nil
	})
}

// merged makes one row of several; Count 0 where there is none.
func merged(rows []record.Row) (out record.Row) {
	var m record.Merge
	for n := range rows {
		if rows[n].Count > 0 {
			m.Add(&rows[n])
		}
	}
	if m.Empty() {
		return out
	}
	return m.Row(0)
}

func anyImported(rows []record.Row) bool {
	for n := range rows {
		if rows[n].Count > 0 && rows[n].Flags&record.Imported != 0 {
			return true
		}
	}
	return false
}

const (
	fivesOfQuarter = 3
	hoursOfFour    = 4
	fivesOfHour    = 12
	minutesOfFive  = 5
	minutesOfHour  = 60
)

// at returns what is there of the file's granularity; Count 0 for nothing.
func (u *importUnit) at(n int) record.Row {
	plain := func(r *record.Row) record.Row {
		if r.Flags&record.Wide != 0 {
			return record.Row{}
		}
		return *r
	}
	switch u.i.o.Granularity {
	case market.Granularity5m:
		return plain(&u.has.fives[n])
	case market.Granularity15m:
		return merged(u.has.fives[fivesOfQuarter*n:][:fivesOfQuarter])
	case market.Granularity1h:
		return plain(&u.has.hours[n])
	case market.Granularity4h:
		return merged(u.has.hours[hoursOfFour*n:][:hoursOfFour])
	default:
		return u.has.minutes[n]
	}
}

// take decides on one row.
func (u *importUnit) take(l *importLine) error {
	i := u.i
	g := i.grain()
	n := int(l.at.Sub(u.start) / g.Width())
	there := u.at(n)
	switch {
	case there.Count > 0 && there.Same(&l.row):
		i.sum.There++
		return nil
	case l.at.Add(g.Width()) > i.hours:
		i.sum.Open++
		return nil
	case there.Count == 0:
		if wide := u.over(n); wide != nil {
			return u.split(l, n, wide)
		}
		u.put(n, l)
		return nil
	}
	stopgap, err := u.stopgap(n, &there)
	if err != nil {
		return err
	}
	if !stopgap && !i.differs(l, u.id, g, l.at, &there, &l.row, false, false) {
		return nil
	}
	if u.madeOfFiner(n) {
		i.sum.Finer++
		return nil
	}
	u.put(n, l)
	return nil
}

// grain is the granularity that rows have once they are in.
func (i *Import) grain() market.Granularity {
	return max(i.o.Granularity, market.Granularity1m)
}

// differs reports a conflict, and whether the file is to be believed.
func (i *Import) differs(l *importLine, id market.ID, g market.Granularity, at market.Time, there, file *record.Row, made, wide bool) bool {
	i.sum.Conflicts++
	if i.o.Conflict != nil {
		i.o.Conflict(&ImportConflict{
			Line: l.line, ID: id, Time: at, Granularity: g, There: there.Point(at), File: file.Point(at), Made: made, Wide: wide,
		})
	}
	return i.o.Policy == ImportReplace
}

// over returns the coarser imported row that covers a stretch without rows of its own.
func (u *importUnit) over(n int) *record.Row {
	hour := n
	switch u.i.grain() {
	case market.Granularity1m:
		if r := &u.has.fives[n/(minutesOfFive*fivesOfQuarter)*fivesOfQuarter]; r.Count > 0 && r.Flags&record.Wide != 0 {
			return r
		}
		hour = n / minutesOfHour
	case market.Granularity5m:
		if r := &u.has.fives[n/fivesOfQuarter*fivesOfQuarter]; r.Count > 0 && r.Flags&record.Wide != 0 {
			return r
		}
		hour = n / fivesOfHour
	case market.Granularity15m:
		hour = n / 4
	case market.Granularity4h:
		return nil
	default:
	}
	if r := &u.has.hours[hour/hoursOfFour*hoursOfFour]; r.Count > 0 && r.Flags&record.Wide != 0 {
		return r
	}
	return nil
}

// split has a finer row take the place of a wide one, where that is wanted.
func (u *importUnit) split(l *importLine, n int, wide *record.Row) error {
	g, at := market.Granularity4h, record.Floor(l.at, 4*market.Hour)
	isFive := wide != &u.has.hours[at.Sub(u.start)/market.Hour]
	if isFive {
		g, at = market.Granularity15m, record.Floor(l.at, 15*market.Minute)
	}
	if !u.i.differs(l, u.id, g, at, wide, &l.row, false, true) {
		return nil
	}
	wide.Count = 0
	if isFive {
		u.dirty.fives[at.Sub(u.start)/market.Hour] = true
	} else {
		u.dirty.hours = true
	}
	if again := u.over(n); again != nil {
		return u.split(l, n, again)
	}
	u.put(n, l)
	return nil
}

// stopgap reports whether a row was made of imported 5-minute rows, for want of
// the minutes that hours are made of: an imported hour is better.
func (u *importUnit) stopgap(n int, there *record.Row) (bool, error) {
	if u.i.o.Granularity != market.Granularity1h || there.Flags&record.Imported == 0 {
		return false, nil
	}
	if err := u.loadFine(); err != nil {
		return false, err
	}
	made := merged(u.had.fives[n*fivesOfHour:][:fivesOfHour])
	return made.Count > 0 && made.Same(there), nil
}

// madeOfFiner reports whether a stretch of 15 min or 4 h is made of finer rows,
// beside which it cannot be stored.
func (u *importUnit) madeOfFiner(n int) bool {
	switch u.i.o.Granularity {
	case market.Granularity15m:
		return u.has.fives[fivesOfQuarter*n].Flags&record.Wide == 0 || u.has.fives[fivesOfQuarter*n].Count == 0
	case market.Granularity4h:
		return u.has.hours[hoursOfFour*n].Flags&record.Wide == 0 || u.has.hours[hoursOfFour*n].Count == 0
	default:
		return false
	}
}

// put writes a row down.
func (u *importUnit) put(n int, l *importLine) {
	u.i.wrote(l.at)
	row := l.row
	first := func(at *int) {
		if *at == 0 {
			*at = l.line
		}
	}
	hour := int(l.at.Sub(u.start) / market.Hour)
	switch u.i.o.Granularity {
	case market.Granularity5m:
		row.Flags |= record.Imported
		u.has.fives[n], u.dirty.fives[hour] = row, true
		first(&u.hour[hour])
	case market.Granularity15m:
		row.Flags |= record.Imported | record.Wide
		u.has.fives[fivesOfQuarter*n], u.dirty.fives[hour] = row, true
		first(&u.hour[hour])
	case market.Granularity1h:
		row.Flags |= record.Imported
		u.has.hours[n], u.dirty.hours = row, true
	case market.Granularity4h:
		row.Flags |= record.Imported | record.Wide
		u.has.hours[hoursOfFour*n], u.dirty.hours = row, true
	default:
		u.has.minutes[n], u.dirty.minutes[hour] = row, true
		first(&u.lines[n/minutesOfFive])
		first(&u.hour[hour])
	}
	if u.firstAny = l.line; u.rows[0].line < l.line {
		u.firstAny = u.rows[0].line
	}
}

// derive computes again what is made of the rows that changed.
func (u *importUnit) derive() {
	for n, line := range u.lines {
		if line == 0 {
			continue
		}
		was, is := merged(u.had.minutes[n*minutesOfFive:][:minutesOfFive]), merged(u.has.minutes[n*minutesOfFive:][:minutesOfFive])
		at := u.start.Add(market.Millis(n) * 5 * market.Minute)
		if u.settle(&u.has.fives[n], &u.had.fives[n], &was, &is, line, at, market.Granularity5m) {
			u.dirty.fives[n/fivesOfHour] = true
		}
	}
	for n, line := range u.hour {
		if line == 0 {
			continue
		}
		was, is := u.had.hourOf(n), u.has.hourOf(n)
		at := u.start.Add(market.Millis(n) * market.Hour)
		if u.settle(&u.has.hours[n], &u.had.hours[n], &was, &is, line, at, market.Granularity1h) {
			u.dirty.hours = true
		}
	}
	if u.dirty.hours && u.start < u.i.rolled.days {
		was, is := merged(u.had.hours[:]), merged(u.has.hours[:])
		u.dirty.day = u.settle(&u.has.day, &u.had.day, &was, &is, u.firstAny, u.start, market.Granularity1d)
	}
}

// hourOf makes an hour: of its minutes, but of 5 minutes where some were imported.
func (d *dayRows) hourOf(n int) record.Row {
	if fives := d.fives[n*fivesOfHour:][:fivesOfHour]; anyImported(fives) {
		return merged(fives)
	}
	return merged(d.minutes[n*minutesOfHour:][:minutesOfHour])
}

// settle replaces a coarser row by what finer ones make, and reports whether it
// changed. One that was not made of finer rows stands against one that is: as a
// conflict where the finer ones are all that the store itself would have made it of.
func (u *importUnit) settle(into, had, was, is *record.Row, line int, at market.Time, g market.Granularity) bool {
	old := *into
	switch {
	case is.Count == 0:
		return false
	case had.Count == 0, had.Flags&record.Wide != 0, was.Count > 0 && was.Same(had), is.Same(had):
		*into = *is
	case is.Flags&record.Imported != 0:
		return false
	case u.i.differs(&importLine{line: line}, u.id, g, at, had, is, true, false):
		*into = *is
	default:
		into.Flags |= record.Imported
	}
	return !into.Same(&old) || into.Flags != old.Flags
}
