package window

import "github.com/velocimeter/velocimeter/engine/market"

// HourCells returns the retained samples t with hour ≤ t < hour + 1h, oldest
// first: one a minute while the hour is in the fine tier, then one per 5
// minutes. Ask for an hour once it is closed; the open hour belongs to the
// state. The slice is the caller's.
func (w *Window) HourCells(from market.Time) []market.Cell {
	cells := make([]market.Cell, 0, 60)
	end := int64(from) + hour
	if w.coarse.n > 0 && w.coarse.first*coarseWidth < end {
		for at := w.coarse.begin(); ; {
			c, ok := w.coarse.next(&at)
			if !ok || c.t >= end {
				break
			}
			if c.t >= int64(from) {
				cells = append(cells, c.export())
			}
		}
	}
	at := w.fine.last() // the hour asked for is mostly the newest
	for c, ok := w.fine.prev(&at); ok && c.t >= int64(from); c, ok = w.fine.prev(&at) {
	}
	return w.fineCells(cells, at, int64(from), end)
}

func (w *Window) fineCells(cells []market.Cell, at cursor, from, end int64) []market.Cell {
	for c, ok := w.fine.next(&at); ok && c.t < end; c, ok = w.fine.next(&at) {
		if c.t >= from {
			cells = append(cells, c.export())
		}
	}
	if w.open.t >= from && w.open.t < end {
		cells = append(cells, w.open.export())
	}
	return cells
}

// DirtyHours returns the starts of the closed hours that hold samples and were
// not yet closed at the last ClearDirty, oldest first. That an older hour later
// moves to the coarse tier does not make it dirty: what was exported is finer.
func (w *Window) DirtyHours() []market.Time {
	openHour := w.open.t / hour * hour
	if w.open.t == 0 || w.dirtyFrom >= openHour {
		return nil
	}
	var hours []market.Time
	for it := w.inside(market.Period7d); it.next(); {
		h := it.c.t / hour * hour
		if h < w.dirtyFrom || h == openHour {
			continue
		}
		if n := len(hours); n == 0 || hours[n-1] != market.Time(h) {
			hours = append(hours, market.Time(h))
		}
	}
	return hours
}

// ClearDirty tells that every hour of DirtyHours has been taken over.
func (w *Window) ClearDirty() { w.dirtyFrom = w.open.t / hour * hour }

// ClearDirtyBefore tells that hours before an instant have been taken over, and
// that those from it on have not.
func (w *Window) ClearDirtyBefore(t market.Time) {
	w.dirtyFrom = min(w.open.t, int64(t)) / hour * hour
}
