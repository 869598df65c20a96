package persist

import (
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// derive computes again what is made of the rows that changed, finest first.
func (u *importUnit) derive() {
	at := func(n int, g market.Granularity) market.Time { return u.start.Add(market.Millis(n) * g.Width()) }
	for n, t := range u.five {
		if t.line == 0 {
			continue
		}
		was, is := merged(u.had.minutes[n*minutesOfFive:][:minutesOfFive]), merged(u.has.minutes[n*minutesOfFive:][:minutesOfFive])
		if u.settle(&u.has.fives[n], &was, &is, t.line, at(n, market.Granularity5m), market.Granularity5m) {
			u.dirty.fives[n/fivesOfHour] = true
		}
	}
	for n, t := range u.quarter {
		if wide := &u.has.quarters[n]; t.line > 0 && wide.Count > 0 {
			is := merged(u.has.fives[n*fivesOfQuarter:][:fivesOfQuarter])
			u.divide(wide, &is, t, at(n, market.Granularity15m), market.Granularity15m)
		}
	}
	for n, t := range u.hour {
		if t.line == 0 {
			continue
		}
		was, is := u.had.hourOf(n), u.has.hourOf(n)
		if u.has.fours[n/hoursOfFour].Count > 0 { // it stands for the hour, too
			u.has.hours[n] = is
			continue
		}
		if u.settle(&u.has.hours[n], &was, &is, t.line, at(n, market.Granularity1h), market.Granularity1h) {
			u.dirty.hours = true
		}
	}
	for n, t := range u.four {
		if wide := &u.has.fours[n]; t.line > 0 && wide.Count > 0 {
			is := merged(u.has.hours[n*hoursOfFour:][:hoursOfFour])
			if g := u.i.grain(); g > market.Granularity1m && g < market.Granularity1h && !is.Same(wide) {
				// Hours that were made of 5 minutes are a stopgap, which the 4 h are better than.
				copy(u.has.hours[n*hoursOfFour:][:hoursOfFour], u.had.hours[n*hoursOfFour:][:hoursOfFour])
				continue
			}
			u.divide(wide, &is, t, at(n, market.Granularity4h), market.Granularity4h)
		}
	}
	if u.dirty.hours && u.start < u.i.rolled.days {
		was, is := u.had.dayOf(), u.has.dayOf()
		u.dirty.day = u.settle(&u.has.day, &was, &is, u.day.line, u.start, market.Granularity1d)
	}
}

// settle replaces a coarser row by what finer ones make, and reports whether it
// changed. One that was not made of finer rows stands against one that is: as a
// conflict where the finer ones are all that the store itself would have made it of.
func (u *importUnit) settle(row, was, is *record.Row, line int, at market.Time, g market.Granularity) bool {
	old := *row
	switch {
	case is.Count == 0:
		return false
	case old.Count == 0, was.Count > 0 && was.Same(&old), is.Same(&old):
		*row = *is
	case is.Flags&record.Imported != 0:
		return false
	case u.i.differs(line, u.id, g, at, &old, is, true):
		*row = *is
	default:
		row.Flags |= record.Imported
	}
	return !row.Same(&old) || row.Flags != old.Flags
}

// divide has finer rows take the place of a wide one, which is a conflict where
// they do not add up to it. Where it stays, they go.
func (u *importUnit) divide(wide, is *record.Row, t changed, at market.Time, g market.Granularity) {
	if is.Same(wide) || u.i.differs(t.line, u.id, g, at, wide, is, true) {
		wide.Count = 0
		u.dirty.hours = u.dirty.hours || g == market.Granularity4h
		if g == market.Granularity15m {
			u.dirty.fives[at.Sub(u.start)/market.Hour] = true
		}
		return
	}
	u.i.sum.Written -= t.rows
	from, to := at.Sub(u.start), at.Sub(u.start)+g.Width()
	if u.fine {
		copy(u.has.minutes[from/market.Minute:to/market.Minute], u.had.minutes[from/market.Minute:to/market.Minute])
		five := 5 * market.Minute
		copy(u.has.fives[from/five:to/five], u.had.fives[from/five:to/five])
	}
	if g == market.Granularity4h {
		quarter := 15 * market.Minute
		copy(u.has.quarters[from/quarter:to/quarter], u.had.quarters[from/quarter:to/quarter])
		copy(u.has.hours[from/market.Hour:to/market.Hour], u.had.hours[from/market.Hour:to/market.Hour])
	}
}
