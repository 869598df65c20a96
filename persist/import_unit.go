package persist

import (
	"errors"

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
// row that is not there has no count. Quarters and fours are wide rows: where one
// is, there are no finer ones.
type dayRows struct {
	minutes  [24 * 60]record.Row
	fives    [24 * 12]record.Row
	quarters [24 * 4]record.Row
	hours    [24]record.Row
	fours    [6]record.Row
	day      record.Row
}

// changed is what rows of the file changed in a stretch.
type changed struct {
	line int // first of them; 0 none
	rows uint64
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
	// What changed, by 5 min, 15 min, hour, 4 h and day.
	five    [24 * 12]changed
	quarter [24 * 4]changed
	hour    [24]changed
	four    [6]changed
	day     changed
	dirty   struct {
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
	fine := u.i.o.Granularity < market.Granularity1h
	if u.fine || fine {
		clearRows(u.had.minutes[:])
		clearRows(u.had.fives[:])
		clearRows(u.had.quarters[:])
	}
	clearRows(u.had.hours[:])
	clearRows(u.had.fours[:])
	u.had.day.Count = 0
	u.fine = false
	clear(u.five[:])
	clear(u.quarter[:])
	clear(u.hour[:])
	clear(u.four[:])
	u.day = changed{}
	u.dirty.minutes, u.dirty.fives, u.dirty.hours, u.dirty.day = [24]bool{}, [24]bool{}, false, false
	if fine {
		if err := u.loadFine(); err != nil {
			return err
		}
	}
	if err := u.read(market.Granularity1h); err != nil {
		return err
	}
	if err := u.read(market.Granularity1d); err != nil {
		return err
	}
	u.has.hours, u.has.fours, u.has.day = u.had.hours, u.had.fours, u.had.day
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
	if err := errors.Join(u.read(market.Granularity1m), u.read(market.Granularity5m)); err != nil {
		return err
	}
	u.has.minutes, u.has.fives, u.has.quarters = u.had.minutes, u.had.fives, u.had.quarters
	return nil
}

// read reads the rows of the day.
func (u *importUnit) read(g market.Granularity) error {
	p := u.i.p
	if p == nil {
		return nil
	}
	p.id = u.id
	return p.stream(g, u.start, u.start.Add(market.Day), func(t market.Time, r *record.Row) error {
		n, wide := int(t.Sub(u.start)/g.Width()), r.Flags&record.Wide != 0
		switch {
		case g == market.Granularity1m:
			u.had.minutes[n] = *r
		case g == market.Granularity5m && wide:
			u.had.quarters[n/fivesOfQuarter] = *r
		case g == market.Granularity5m:
			u.had.fives[n] = *r
		case g == market.Granularity1h && wide:
			u.had.fours[n/hoursOfFour] = *r
		case g == market.Granularity1h:
			u.had.hours[n] = *r
		default:
			u.had.day = *r
		}
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
	quartersOfHour = 4
	fivesOfQuarter = 3
	hoursOfFour    = 4
	fivesOfHour    = 12
	minutesOfFive  = 5
	minutesOfHour  = 60
)

// at returns what is there of the file's granularity; Count 0 for nothing.
func (u *importUnit) at(n int) record.Row {
	switch u.i.o.Granularity {
	case market.Granularity5m:
		return u.has.fives[n]
	case market.Granularity15m:
		return u.has.quarter(n)
	case market.Granularity1h:
		return u.has.hours[n]
	case market.Granularity4h:
		return u.has.four(n)
	default:
		return u.has.minutes[n]
	}
}

// quarter returns 15 minutes: as they were imported, or made of their rows.
func (d *dayRows) quarter(n int) record.Row {
	if d.quarters[n].Count > 0 {
		return d.quarters[n]
	}
	return merged(d.fives[n*fivesOfQuarter:][:fivesOfQuarter])
}

// four returns 4 hours likewise.
func (d *dayRows) four(n int) record.Row {
	if d.fours[n].Count > 0 {
		return d.fours[n]
	}
	return merged(d.hours[n*hoursOfFour:][:hoursOfFour])
}

// hourOf makes an hour: of its minutes, but of coarser rows where some were imported.
func (d *dayRows) hourOf(n int) record.Row {
	fives, quarters := d.fives[n*fivesOfHour:][:fivesOfHour], d.quarters[n*quartersOfHour:][:quartersOfHour]
	if !anyImported(fives) && !anyImported(quarters) {
		return merged(d.minutes[n*minutesOfHour:][:minutesOfHour])
	}
	var all [fivesOfHour]record.Row
	copy(all[:], fives)
	for q := range quarters {
		if quarters[q].Count > 0 {
			all[q*fivesOfQuarter] = quarters[q]
		}
	}
	return merged(all[:])
}

// dayOf makes the day.
func (d *dayRows) dayOf() record.Row {
	all := d.hours
	for n := range d.fours {
		if d.fours[n].Count > 0 {
			all[n*hoursOfFour] = d.fours[n]
		}
	}
	return merged(all[:])
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
		u.put(n, l)
		return nil
	}
	stopgap, err := u.stopgap(n, &there)
	if err != nil {
		return err
	}
	if !stopgap && !i.differs(l.line, u.id, g, l.at, &there, &l.row, false) {
		return nil
	}
	if g == market.Granularity15m && u.has.quarters[n].Count == 0 || g == market.Granularity4h && u.has.fours[n].Count == 0 {
		i.sum.Finer++ // it is made of finer rows, beside which it cannot be stored
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
func (i *Import) differs(line int, id market.ID, g market.Granularity, at market.Time, there, file *record.Row, made bool) bool {
	i.sum.Conflicts++
	if i.o.Conflict != nil {
		there, file := *there, *file // which go on being rows
		i.o.Conflict(&ImportConflict{
			Line: line, ID: id, Time: at, Granularity: g, There: *there.Place(at), File: *file.Place(at), Made: made,
		})
	}
	return i.o.Policy == ImportReplace
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
	of := u.had.hourOf(n)
	return of.Count > 0 && of.Same(there), nil
}

// put writes a row down.
func (u *importUnit) put(n int, l *importLine) {
	u.i.wrote(l.at)
	hour := int(l.at.Sub(u.start) / market.Hour)
	row := l.row
	note := func(t *changed) {
		if t.rows++; t.line == 0 {
			t.line = l.line
		}
	}
	note(&u.day)
	switch u.i.o.Granularity {
	case market.Granularity5m:
		row.Flags |= record.Imported
		u.has.fives[n], u.dirty.fives[hour] = row, true
		note(&u.quarter[n/fivesOfQuarter])
	case market.Granularity15m:
		row.Flags |= record.Imported | record.Wide
		u.has.quarters[n], u.dirty.fives[hour] = row, true
	case market.Granularity1h:
		row.Flags |= record.Imported
		u.has.hours[n], u.dirty.hours = row, true
		note(&u.four[n/hoursOfFour])
		return // finer rows make it, not the other way round
	case market.Granularity4h:
		row.Flags |= record.Imported | record.Wide
		u.has.fours[n], u.dirty.hours = row, true
		return
	default:
		u.has.minutes[n], u.dirty.minutes[hour] = row, true
		note(&u.five[n/minutesOfFive])
		note(&u.quarter[n/(minutesOfFive*fivesOfQuarter)])
	}
	note(&u.hour[hour])
	note(&u.four[hour/hoursOfFour])
}
