package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist"
	"github.com/velocimeter/velocimeter/transport/rest"
)

// exportFlags are the flags of export as they were given.
type exportFlags struct {
	lineage, from, to, granularity, format, ids, out string
	gaps                                             bool
}

func (a *app) exportCommand() *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use: "export", Short: "Write history to a file or standard output", Args: noArguments,
		Long: "Reads the history of a data folder that no server holds, changing nothing in it, and writes it\n" +
			"as /history prints it (transport/rest/API.md), id and symbol in front of every point. Tokens come\n" +
			"by ascending id, the points of each in order of time. The symbol is the token's newest one.\n" +
			"Retention is that of the configuration: export with the settings that the server has.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			job, err := f.parse()
			if err != nil {
				return err
			}
			c, err := a.load(cmd, config.ExportFile)
			if err != nil {
				return err
			}
			return a.export(cmd.Context(), c, job)
		},
	}
	addSettings(cmd, config.ExportFile)
	flags := cmd.Flags()
	flags.StringVar(&f.lineage, "lineage", "", "which market of the folder, such as live-coinmarketcap; needed where there are several")
	flags.StringVar(&f.from, "from", "", "first `instant`, RFC 3339 or milliseconds since 1970, rounded down to whole points; default the beginning")
	flags.StringVar(&f.to, "to", "", "`instant` to stop before, rounded up; default the end")
	flags.StringVarP(&f.granularity, "granularity", "g", "1h", "raw, 1m, 5m, 15m, 1h, 4h or 1d")
	flags.StringVar(&f.format, "format", "ndjson", "ndjson or csv")
	flags.StringVar(&f.ids, "ids", "all", "ids of tokens, such as 1,1027, or all")
	flags.BoolVar(&f.gaps, "gaps", false, "write stretches without points too, as lines with a member gap; ndjson only")
	flags.StringVarP(&f.out, "out", "o", "-", "where it goes; - is standard output")
	return cmd
}

// exportJob is what to export.
type exportJob struct {
	lineage, out string
	past         *rest.Sheet
	granularity  market.Granularity
	from, to     market.Time
	begin, end   bool // "from", "to" were given
	csv, gaps    bool
	ids          []market.ID // nil for all
}

func (f *exportFlags) parse() (*exportJob, error) {
	j := &exportJob{lineage: f.lineage, out: f.out, gaps: f.gaps, to: maxInstant, begin: f.from != "", end: f.to != ""}
	var ok bool
	if j.granularity, ok = market.ParseGranularity(f.granularity); !ok {
		return nil, usageError("--granularity: %q is not one of raw, 1m, 5m, 15m, 1h, 4h, 1d", f.granularity)
	}
	j.csv = f.format == "csv"
	if !j.csv && f.format != "ndjson" {
		return nil, usageError("--format: %q is neither ndjson nor csv", f.format)
	}
	if j.csv && j.gaps {
		return nil, usageError("--gaps: csv holds points alone; take --format ndjson")
	}
	for _, bound := range []struct {
		name, text string
		at         *market.Time
	}{{"from", f.from, &j.from}, {"to", f.to, &j.to}} {
		if bound.text == "" {
			continue
		}
		if *bound.at, ok = rest.ParseInstant(bound.text); !ok {
			return nil, usageError("--%s: %q is neither RFC 3339, such as 2026-11-20T18:00:00Z, nor milliseconds since 1970", bound.name, bound.text)
		}
	}
	if j.from >= j.to {
		return nil, usageError("--from must be before --to")
	}
	if f.out == "" {
		return nil, usageError("--out is empty")
	}
	j.past = rest.NewSheet(j.granularity)
	j.from, j.to = j.past.Stretch(j.from, j.to)
	var err error
	j.ids, err = parseIDs(f.ids)
	return j, err
}

// maxInstant is the end of the year 9999.
const maxInstant = market.Time(253402300799999)

func parseIDs(text string) (ids []market.ID, err error) {
	if text == "all" {
		return nil, nil
	}
	for item := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(item), 10, 32)
		if err != nil || n == 0 {
			return nil, usageError("--ids: %q is not an id from 1 to %d; write ids such as 1,1027, or all", item, uint32(math.MaxUint32))
		}
		ids = append(ids, market.ID(n))
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// export writes what the job asks for.
func (a *app) export(ctx context.Context, c *config.Loaded, j *exportJob) (err error) {
	if j.lineage, err = chooseLineage(c.Data, j.lineage); err != nil {
		return err
	}
	store, err := persist.OpenReadOnly(persist.Options{
		Dir: c.Data, Lineage: j.lineage, Logger: a.logger(c.Log), Retention: retention(c.Store), Keys: c.StoreKeys,
	})
	if err != nil {
		return exportError(c.Data, err)
	}
	defer func() { err = cmp.Or(err, exitWith(exitIO, store.Close())) }()
	e := &exporter{job: j, store: store}
	if j.out == "-" {
		err = e.run(ctx, a.stdout)
	} else {
		err = e.runTo(ctx, j.out)
	}
	if err == nil {
		e.report(a.stderr)
	}
	return err
}

// runTo writes to a file, which has its name only when it is whole.
func (e *exporter) runTo(ctx context.Context, name string) error {
	f, err := createOutput(name)
	if err != nil {
		return exitWith(exitIO, fmt.Errorf("cannot create %q: %w", name, err))
	}
	err = e.run(ctx, f)
	return errors.Join(err, f.finish(err == nil))
}

// report says what an export held, and what the store knows to lack.
func (e *exporter) report(to io.Writer) {
	_, _ = fmt.Fprintf(to, "%d points of %d tokens, %d gaps\n", e.points, e.tokens, e.gaps)
	for _, id := range e.unknown {
		_, _ = fmt.Fprintf(to, "token %d is not in the store\n", id)
	}
	for _, l := range e.store.Recovery().Lost {
		_, _ = fmt.Fprintf(to, "ticks %d to %d were lost by an unclean stop\n", l.From+1, l.To)
	}
	if m := e.store.Recovery().Mended; m != nil {
		for i := range m.Lost {
			since, until := m.Lost[i].Span()
			_, _ = fmt.Fprintf(to, "damage may have cost %s of tokens %s from %s to %s\n", m.Lost[i].Kind, m.Lost[i].Tokens(), since, until)
		}
	}
	if n := len(e.store.Recovery().Damage); n > 0 {
		_, _ = fmt.Fprintf(to, "%d damaged records: start the server on the folder to learn more\n", n)
	}
}

// chooseLineage returns the named lineage, or the only one.
func chooseLineage(dir, name string) (string, error) {
	names, err := persist.Lineages(dir)
	switch {
	case errors.Is(err, persist.ErrAbsent):
		return "", exitWith(exitData, err)
	case err != nil:
		return "", exitWith(exitIO, err)
	case name != "" && !slices.Contains(names, name):
		return "", exitWith(exitData, fmt.Errorf("there is no lineage %q in %q; there is: %s", name, dir, namesOf(names)))
	case name != "":
		return name, nil
	case len(names) == 1:
		return names[0], nil
	case len(names) == 0:
		return "", exitWith(exitData, fmt.Errorf("there is no history in %q", dir))
	}
	return "", usageError("%q holds several lineages: name one with --lineage: %s", dir, namesOf(names))
}

func namesOf(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func exportError(dir string, err error) error {
	switch {
	case errors.Is(err, persist.ErrLocked):
		return exitWith(exitTemporary, fmt.Errorf("cannot export from %q: %w; ask its server (GET /api/v1/tokens/{id}/history takes Accept: text/csv and application/x-ndjson), "+
			"stop it, or export from a backup copy of the folder", dir, err))
	case errors.Is(err, persist.ErrAbsent):
		return exitWith(exitData, err)
	}
	return storeError(dir, err)
}
