package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist"
	"github.com/velocimeter/velocimeter/transport/rest"
)

// What is shown of long lists of mistakes.
const (
	maxBadLines       = 20
	maxShownConflicts = 20
	maxShownSymbols   = 5
)

// intake reads the file three times: for its mistakes, for what the lineage
// says to it, and to write it.
type intake struct {
	job     *importJob
	src     *sheetFile
	options persist.Options
	stderr  io.Writer
	names   map[market.ID]string

	print  uint64      // of the file's bytes
	newest market.Time // beginning of the newest row
	coarse market.Granularity
	gaps   int
	sum    persist.ImportSum
	strange,
	shown int
}

func (m *intake) say(format string, args ...any) {
	_, _ = fmt.Fprintf(m.stderr, format+"\n", args...)
}

// each reads the file and calls fn with every row. A line that is wrong goes to
// bad, or ends it where there is none.
func (m *intake) each(ctx context.Context, fn func(*rest.SheetRow) error, bad func(*rest.SheetError) error) error {
	from, err := m.src.rewind()
	if err != nil {
		return m.unreadable(err)
	}
	r := rest.NewSheetReader(from, m.job.granularity)
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return exitWith(exitInterrupted, errors.New("stopped before the end"))
		}
		row, err := r.Next()
		wrong := (*rest.SheetError)(nil)
		switch {
		case errors.Is(err, io.EOF):
			m.gaps = r.Gaps()
			return nil
		case err == nil:
			err = fn(row)
		case errors.As(err, &wrong) && bad != nil:
			err = bad(wrong)
		default:
			err = m.unreadable(err)
		}
		if err != nil {
			return err
		}
	}
}

// unreadable is of a file that cannot be read to its end. Only a gzipped one can
// tell that it has been cut off.
func (m *intake) unreadable(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return exitWith(exitData, fmt.Errorf("cannot read %s: the gzip file ends early, in line %d: %w; copy or export it again", m.src.name, m.src.lines+1, err))
	}
	return exitWith(exitData, fmt.Errorf("cannot read %s: %w", m.src.name, err))
}

// survey reads the file by itself.
func (m *intake) survey(ctx context.Context) error {
	wrong, rows := 0, 0
	m.coarse = market.NumGranularities - 1
	err := m.each(ctx, func(r *rest.SheetRow) error {
		rows++
		m.newest = max(m.newest, r.Point.Time)
		for m.coarse > m.job.granularity && int64(r.Point.Time)%int64(m.coarse.Width()) != 0 {
			m.coarse--
		}
		return nil
	}, func(e *rest.SheetError) error {
		m.say("%s:%s", m.src.name, trimLine(e))
		if wrong++; wrong == maxBadLines {
			return exitWith(exitData, fmt.Errorf("cannot import %s: wrong lines: %d or more; nothing was written", m.src.name, wrong))
		}
		return nil
	})
	if err == nil && wrong > 0 {
		err = exitWith(exitData, fmt.Errorf("cannot import %s: wrong lines: %d; nothing was written", m.src.name, wrong))
	}
	if err == nil && rows > 2 && m.job.granularity != market.GranularityRaw && m.coarse > m.job.granularity {
		m.say("every time is the beginning of a stretch of %s: is it a file of that?", m.coarse)
	}
	m.print = m.src.print()
	return err
}

// trimLine is a mistake as compilers print it, behind the file's name.
func trimLine(e *rest.SheetError) string {
	if e.Column == "" {
		return fmt.Sprintf("%d: %s", e.Line, e.What)
	}
	return fmt.Sprintf("%d: %s: %s", e.Line, e.Column, e.What)
}

// check asks what the lineage says to every row, and changes nothing.
func (m *intake) check(ctx context.Context) error {
	if m.job.absent {
		return m.run(ctx, nil, false)
	}
	store, err := persist.OpenReadOnly(m.options)
	if m.job.create && errors.Is(err, persist.ErrAbsent) { // its first start was cut short
		return m.run(ctx, nil, false)
	}
	if err != nil {
		return importError(m.options.Dir, err)
	}
	if m.names, err = storeNames(store); err == nil {
		err = m.run(ctx, store, false)
	} else {
		err = exitWith(exitIO, err)
	}
	return cmp.Or(err, exitWith(exitIO, store.Close()))
}

// write does the same again, and writes.
func (m *intake) write(ctx context.Context) error {
	store, err := persist.Open(m.options)
	if err != nil {
		return importError(m.options.Dir, err)
	}
	m.shown, m.strange = maxShownConflicts, maxShownSymbols // told already
	err = m.run(ctx, store, true)
	if err != nil {
		err = fmt.Errorf("%w; what was written is whole days of tokens, and the import can be done again", err)
	}
	return errors.Join(err, exitWith(exitIO, store.Close()))
}

// run reads the file into an import.
func (m *intake) run(ctx context.Context, store *persist.Store, write bool) error {
	im, err := persist.NewImport(ctx, store, persist.ImportOptions{
		Granularity: m.job.granularity, Policy: m.job.policy, Write: write,
		Newest: m.newest, Now: market.TimeOf(time.Now()), Retention: m.options.Retention, Conflict: m.conflict,
	})
	if err != nil {
		return storeError(m.options.Dir, err)
	}
	var last market.ID
	err = m.each(ctx, func(r *rest.SheetRow) error {
		if r.ID != last {
			last = r.ID
			m.symbol(r)
		}
		if err := im.Add(&persist.ImportRow{Line: r.Line, ID: r.ID, Symbol: r.Symbol, Point: r.Point}); err != nil {
			return storeError(m.options.Dir, err)
		}
		return nil
	}, nil)
	sum, ended := im.End()
	m.sum = sum
	if err == nil && m.src.print() != m.print {
		err = exitWith(exitData, fmt.Errorf("%s was changed while it was read", m.src.name))
	}
	if err == nil && ended != nil {
		err = storeError(m.options.Dir, ended)
	}
	return err
}

// symbol tells of a token that has another name in the lineage: it may be another.
func (m *intake) symbol(r *rest.SheetRow) {
	known := m.names[r.ID]
	if known == "" || r.Symbol == "" || known == r.Symbol {
		return
	}
	if m.strange++; m.strange <= maxShownSymbols {
		m.say("%s:%d: token %d is %s in the file, %s in the lineage", m.src.name, r.Line, r.ID, r.Symbol, known)
	}
}

// conflict tells of a row that the lineage has with other values.
func (m *intake) conflict(c *persist.ImportConflict) {
	if m.shown++; m.shown > maxShownConflicts {
		return
	}
	why := ""
	if c.Made {
		why = "the " + c.Granularity.String() + " that the file's rows make differs: "
	}
	sheet := rest.NewSheet(c.Granularity)
	m.say("%s:%d: token %d at %s: %s%s", m.src.name, c.Line, c.ID, c.Time.AppendRFC3339(nil), why, sheet.AppendDifference(nil, &c.There, &c.File))
	if m.shown == maxShownConflicts {
		m.say("more conflicts are counted, not shown")
	}
}

// report sums up.
func (m *intake) report(what string) {
	s, g := &m.sum, m.job.granularity
	written := "written"
	if what != "" {
		written = "to write"
	}
	raw := ""
	if g == market.GranularityRaw {
		raw = fmt.Sprintf(" making %d minutes", s.Minutes)
		g = market.Granularity1m
	}
	m.say("%d rows of %d tokens read%s: %d %s, %d already there, %d conflicts", s.Rows, s.Tokens, raw, s.Written, written, s.There, s.Conflicts)
	for _, l := range []struct {
		n    uint64
		what string
	}{
		{s.Old, "refused: older than what the lineage keeps of " + g.String() + " (" + keepSetting(g) + ")"},
		{s.Open, "refused: their hour or day is not over in the lineage"},
		{s.Finer, "refused: " + g.String() + " is made of finer points there, which --conflicts cannot replace"},
		{s.Rounded, "had more digits than history keeps, and were rounded"},
		{uint64(m.gaps), "lines told of gaps"},
	} {
		if l.n > 0 {
			m.say("%d %s", l.n, l.what)
		}
	}
	if what != "" {
		m.say("%s", what)
	}
}

// keepSetting names the setting that says how long a granularity is kept.
func keepSetting(g market.Granularity) string {
	switch g {
	case market.Granularity1m:
		return "store.keep_1m"
	case market.Granularity5m, market.Granularity15m:
		return "store.keep_5m"
	case market.Granularity1h, market.Granularity4h:
		return "store.keep_1h"
	default:
		return "store.keep_1d"
	}
}
