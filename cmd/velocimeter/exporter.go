package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"syscall"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/tick"
	"github.com/velocimeter/velocimeter/persist"
)

// exporter writes the history of tokens, one after another, point by point.
type exporter struct {
	job   *exportJob
	store *persist.Store
	names map[market.ID]string
	line  []byte

	points, gaps, tokens int
	unknown              []market.ID // asked for by id, and not in the store
}

// run writes everything. A reader that has had enough is no error.
func (e *exporter) run(ctx context.Context, to io.Writer) error {
	w := bufio.NewWriterSize(to, 1<<18)
	err := e.write(ctx, w)
	if err == nil {
		err = writeError(w.Flush())
	}
	if errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}

func writeError(err error) error {
	if err == nil {
		return nil
	}
	return exitWith(exitIO, fmt.Errorf("cannot write history: %w", err))
}

func (e *exporter) write(ctx context.Context, w *bufio.Writer) error {
	var err error
	if e.names, err = storeNames(e.store); err != nil {
		return exitWith(exitIO, err)
	}
	ids, err := e.chosen()
	if err != nil {
		return exitWith(exitIO, err)
	}
	if e.job.csv {
		if _, err := w.Write(e.job.past.AppendHeader(nil)); err != nil {
			return writeError(err)
		}
	}
	for _, id := range ids {
		before := e.points
		if err := e.token(ctx, w, id); err != nil {
			return err
		}
		if e.points > before {
			e.tokens++
		}
	}
	return nil
}

// chosen returns the tokens to write, ascending.
func (e *exporter) chosen() ([]market.ID, error) {
	ids, err := e.store.TokensWith(e.job.granularity, e.job.from, e.job.to)
	if err != nil || e.job.ids == nil {
		return ids, err
	}
	for _, id := range e.job.ids {
		if _, known := slices.BinarySearch(ids, id); !known {
			e.unknown = append(e.unknown, id)
		}
	}
	return e.job.ids, nil
}

// storeNames returns the newest symbol of every token: imported ones, then from
// its state, then from the ticks after that.
func storeNames(store *persist.Store) (map[market.ID]string, error) {
	names := make(map[market.ID]string)
	err := store.Names(func(id market.ID, symbol string) { names[id] = symbol })
	if err != nil {
		return nil, fmt.Errorf("cannot read symbols: %w", err)
	}
	err = store.States(func(ts market.TokenState) error {
		info, err := tick.InfoOf(ts)
		if err == nil && info != nil { // a state of another version costs the name
			names[ts.ID] = info.Symbol
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read symbols: %w", err)
	}
	newer := make(map[market.ID]string)
	err = store.Journal(func(t *market.JournalTick) error {
		for i := range t.Rows {
			if q := t.Rows[i].Quote; q != nil && q.Info != nil {
				newer[t.Rows[i].ID] = q.Info.Symbol
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read symbols: %w", err)
	}
	maps.Copy(names, newer)
	return names, nil
}

// token writes one token's points and gaps in order of time, as they are read.
func (e *exporter) token(ctx context.Context, w *bufio.Writer, id market.ID) error {
	q := market.HistoryQuery{ID: id, From: e.job.from, To: e.job.to, Granularity: e.job.granularity, Limit: math.MaxInt}
	var page market.HistoryPage
	var failed error // of writing
	gaps := func() error {
		for _, g := range page.Gaps {
			if failed = e.gap(w, id, g); failed != nil {
				return failed
			}
		}
		page.Gaps = page.Gaps[:0]
		return nil
	}
	err := e.store.EachPoint(ctx, q, &page, func(p *market.Point) error {
		if err := gaps(); err != nil {
			return err
		}
		failed = e.point(w, id, p)
		return failed
	})
	if err == nil {
		err = gaps()
	}
	switch {
	case failed != nil:
		return writeError(failed)
	case ctx.Err() != nil:
		return exitWith(exitInterrupted, errors.New("stopped before the end"))
	case err != nil:
		return exitWith(exitIO, err)
	}
	return nil
}

func (e *exporter) point(w *bufio.Writer, id market.ID, p *market.Point) error {
	e.points++
	if e.job.csv {
		e.line = e.job.past.AppendCells(e.line[:0], id, e.names[id], p)
	} else {
		e.line = e.job.past.AppendLine(e.line[:0], id, e.names[id], p)
	}
	_, err := w.Write(e.line)
	return err
}

// gap writes a stretch without points, but for what is before the beginning and
// behind the end where those were not asked about.
func (e *exporter) gap(w *bufio.Writer, id market.ID, g market.Gap) error {
	if !e.job.begin && g.From <= e.job.from || !e.job.end && g.To >= e.job.to {
		return nil
	}
	e.gaps++
	if !e.job.gaps {
		return nil
	}
	e.line = e.job.past.AppendGap(e.line[:0], id, e.names[id], g)
	_, err := w.Write(e.line)
	return err
}
