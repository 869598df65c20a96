package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/tick"
	"github.com/velocimeter/velocimeter/persist"
)

func (a *app) verifyCommand() *cobra.Command {
	var lineage string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [DIR]",
		Short: "Check every record of a store or a backup, and compute again what was derived",
		Long: "Reads every record of the lineages in the data folder, or of the lineage or backup in DIR, and\n" +
			"changes nothing. Checks that each is what was written, that no tick is missing but those that are\n" +
			"known to be, and that minutes, 5 minutes, hours, days and velocities are what they were made of.\n" +
			"Exit code: 0 when sound, 64 when there is no such lineage, 65 when damaged or no store, 74 when it\n" +
			"cannot be read, 75 while a server has the folder, 78 where the keys are not those of the store.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError("%s takes one folder; `%s --help` shows how", cmd.CommandPath(), cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.load(cmd, config.StoreTool)
			if err != nil {
				return err
			}
			dirs := args
			if len(dirs) == 0 {
				if dirs, err = lineageDirs(c.Data, lineage); err != nil {
					return err
				}
			} else if lineage != "" {
				return usageError("--lineage names a lineage of the data folder, %q is one or a backup already", args[0])
			}
			return a.verify(cmd.Context(), c, dirs, asJSON)
		},
	}
	addSettings(cmd, config.StoreTool)
	cmd.Flags().StringVar(&lineage, "lineage", "", "`name` of the only lineage to look at; all of the data folder if not given")
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line for each lineage instead of text")
	return cmd
}

// lineageDirs returns the folders of a lineage, or of all in the data folder.
func lineageDirs(data, lineage string) (dirs []string, err error) {
	names, err := persist.Lineages(data)
	if err != nil {
		return nil, exitWith(exitIO, fmt.Errorf("%w; --data names the folder", err))
	}
	if lineage != "" {
		if !slices.Contains(names, lineage) {
			return nil, usageError("no lineage %q in %q; there are: %s", lineage, data, strings.Join(names, ", "))
		}
		names = []string{lineage}
	}
	if len(names) == 0 {
		return nil, exitWith(exitIO, fmt.Errorf("cannot find a lineage in %q; --data names the folder", data))
	}
	for _, name := range names {
		dirs = append(dirs, filepath.Join(data, name))
	}
	return dirs, nil
}

// storeChecks decodes what only the engine can read.
func storeChecks(c *config.Loaded) persist.Checks {
	q := qualityOf(c)
	return persist.Checks{
		Engine: func(blob []byte) error {
			return tick.NewMachine(tick.Config{Epoch: "verify", Shards: 1, NextSeq: 1, Quality: q}).Engine.Restore(blob)
		},
		Token: func(ts market.TokenState, cells []market.Cell) error {
			return tick.NewShard(q).Restore(ts, cells)
		},
	}
}

var errDamaged = errors.New("is damaged")

func (a *app) verify(ctx context.Context, c *config.Loaded, dirs []string, asJSON bool) error {
	var errs []error
	for _, dir := range dirs {
		rep, err := persist.Verify(ctx, persist.VerifyOptions{Dir: dir, Keys: c.StoreKeys, Checks: storeChecks(c)})
		if err != nil {
			return verifyError(err)
		}
		if asJSON {
			err = json.NewEncoder(a.stdout).Encode(reportOf(rep))
		} else {
			err = writeReport(a.stdout, rep)
		}
		if err != nil {
			return exitWith(exitIO, fmt.Errorf("cannot write the report: %w", err))
		}
		if !rep.Sound() {
			do := "restore a backup, or start the server: it keeps the damaged store aside and goes on with all that can be read"
			if rep.Backup != nil {
				do = "it cannot be restored: make another, or take an older one"
			}
			errs = append(errs, fmt.Errorf("%q %w: %d faults; %s", dir, errDamaged, rep.FaultCount, do))
		}
	}
	return exitWith(exitData, errors.Join(errs...))
}

// verifyError says what to do about a store that could not be looked at.
func verifyError(err error) error {
	switch {
	case errors.Is(err, persist.ErrMending):
		return exitWith(exitTemporary, err)
	case errors.Is(err, persist.ErrLocked):
		return exitWith(exitTemporary, fmt.Errorf("%w; ask the server by `velocimeter backup`, and verify the copy", err))
	case errors.Is(err, persist.ErrNoStore), errors.Is(err, fs.ErrNotExist):
		return exitWith(exitData, err)
	case errors.Is(err, persist.ErrKey):
		return exitWith(exitConfig, err)
	}
	return exitWith(exitIO, err)
}

// reportJSON is a report as the command prints it.
type reportJSON struct {
	Dir        string      `json:"dir"`
	Sound      bool        `json:"sound"`
	Backup     bool        `json:"backup"`
	Epoch      string      `json:"epoch"`
	FirstSeq   uint64      `json:"first_seq"`
	DurableSeq uint64      `json:"durable_seq"`
	StateSeq   uint64      `json:"state_seq"`
	Time       *time.Time  `json:"time"`
	Kinds      []kindJSON  `json:"kinds"`
	Recomputed uint64      `json:"recomputed"`
	Unchecked  uint64      `json:"unchecked_minutes"`
	Holes      []seqsJSON  `json:"holes"`
	Cut        []seqsJSON  `json:"cut"`
	Mended     *mending    `json:"mended"`
	FaultCount uint64      `json:"fault_count"`
	Faults     []faultJSON `json:"faults"`
	TookMs     int64       `json:"took_ms"`
}

type kindJSON struct {
	Kind    string `json:"kind"`
	Records uint64 `json:"records"`
	Rows    uint64 `json:"rows"`
	Bytes   uint64 `json:"bytes"`
}

// seqsJSON is a range of seqs, both ends included.
type seqsJSON struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

type faultJSON struct {
	Kind  string     `json:"kind"`
	Key   string     `json:"key,omitempty"`
	Token market.ID  `json:"token,omitempty"`
	Time  *time.Time `json:"time,omitempty"`
	Seqs  *seqsJSON  `json:"seqs,omitempty"`
	What  string     `json:"what"`
}

func reportOf(r *persist.Report) *reportJSON {
	out := &reportJSON{
		Dir: r.Dir, Sound: r.Sound(), Backup: r.Backup != nil, Epoch: r.Epoch, FirstSeq: r.FirstSeq, DurableSeq: r.DurableSeq, StateSeq: r.StateSeq,
		Time: instant(r.Time), Recomputed: r.Recomputed, Unchecked: r.Unchecked, Holes: seqsOf(r.Holes), Cut: seqsOf(r.Cut), Mended: mendingOf(r.Mended),
		FaultCount: r.FaultCount, Kinds: []kindJSON{}, Faults: []faultJSON{}, TookMs: r.Took.Milliseconds(),
	}
	for _, k := range r.Kinds {
		out.Kinds = append(out.Kinds, kindJSON(k))
	}
	for _, f := range r.Faults {
		fault := faultJSON{Kind: f.Kind, Key: f.Key, Token: f.Token, Time: instant(f.Time), What: f.What}
		if f.To > 0 {
			fault.Seqs = &seqsJSON{f.From, f.To}
		}
		out.Faults = append(out.Faults, fault)
	}
	return out
}

func instant(t market.Time) *time.Time {
	if t == 0 {
		return nil
	}
	at := t.Std()
	return &at
}

// seqsOf turns ranges that begin behind their first seq into plain ones.
func seqsOf(ranges []persist.LostRange) []seqsJSON {
	out := []seqsJSON{}
	for _, r := range ranges {
		out = append(out, seqsJSON{r.From + 1, r.To})
	}
	return out
}

// writeReport prints a report for people.
func writeReport(to io.Writer, r *persist.Report) error {
	var b strings.Builder
	what := "lineage"
	if r.Backup != nil {
		what = "backup"
	}
	fmt.Fprintf(&b, "%s %s, epoch %s, seq %d…%d, state at %d\n", what, r.Dir, r.Epoch, r.FirstSeq, r.DurableSeq, r.StateSeq)
	for _, k := range r.Kinds {
		if k.Records > 0 {
			fmt.Fprintf(&b, "  %-16s %10d records %12d rows %12d bytes\n", k.Kind, k.Records, k.Rows, k.Bytes)
		}
	}
	fmt.Fprintf(&b, "  computed again: %d rows", r.Recomputed)
	if r.Unchecked > 0 {
		fmt.Fprintf(&b, " (not the minutes of which ticks are gone: %d)", r.Unchecked)
	}
	b.WriteByte('\n')
	for _, list := range []struct {
		name   string
		ranges []persist.LostRange
	}{{"known hole", r.Holes}, {"cut off", r.Cut}} {
		for _, s := range seqsOf(list.ranges) {
			fmt.Fprintf(&b, "  %s: seq %d…%d\n", list.name, s.From, s.To)
		}
	}
	writeMended(&b, r.Mended)
	for i := range r.Faults {
		b.WriteString("  FAULT " + faultLine(&r.Faults[i]) + "\n")
	}
	if more := r.FaultCount - uint64(len(r.Faults)); more > 0 {
		fmt.Fprintf(&b, "  and %d more\n", more)
	}
	verdict := "sound"
	if !r.Sound() {
		verdict = fmt.Sprintf("DAMAGED: %d faults", r.FaultCount)
	}
	fmt.Fprintf(&b, "  %s, in %s\n", verdict, r.Took.Round(time.Millisecond))
	_, err := io.WriteString(to, b.String())
	return err
}

// writeMended says what a mending left out: known, and no fault.
func writeMended(b *strings.Builder, m *persist.Mended) {
	if m == nil {
		return
	}
	if m.Folder == "" {
		fmt.Fprintf(b, "  mended, and %s\n", m.Why)
	} else {
		fmt.Fprintf(b, "  mended %s, the damaged store is in %s\n", m.At.UTC().Format(time.RFC3339), m.Folder)
	}
	if m.Failed != "" {
		fmt.Fprintf(b, "  nothing could be read of it: %s\n", m.Failed)
	}
	for _, s := range m.LostSeqs {
		fmt.Fprintf(b, "  lost ticks: seq %d…%d\n", s.First, s.Last)
	}
	for i := range m.Lost {
		l := &m.Lost[i]
		from, to := l.Span()
		fmt.Fprintf(b, "  may be lost: %s of tokens %s, from %s to %s\n", l.Kind, l.Tokens(), from, to)
	}
}

func faultLine(f *persist.Fault) string {
	line := f.Kind
	if f.Key != "" {
		line += " " + f.Key
	}
	if f.Token != 0 {
		line += fmt.Sprintf(", token %d", f.Token)
	}
	if f.Time != 0 {
		line += ", " + f.Time.Std().Format(time.RFC3339)
	}
	if f.To != 0 {
		line += fmt.Sprintf(", seq %d…%d", f.From, f.To)
	}
	return line + ": " + f.What
}
