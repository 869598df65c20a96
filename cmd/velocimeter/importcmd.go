package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist"
)

// importFlags are the flags of import as they were given.
type importFlags struct {
	lineage, granularity, conflicts string
	create, dryRun                  bool
}

func (a *app) importCommand() *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Put history that export wrote into a data folder",
		Long: "Reads FILE, NDJSON or CSV as `export` writes it, gzipped or not, - for standard input, and fills in\n" +
			"what the lineage lacks. Rows come by ascending id, those of a token in order of time. What is there\n" +
			"and the same stays; what is there and differs is a conflict, and then nothing is written unless\n" +
			"--conflicts says what is to be done. Everything is read and checked before anything is written.\n" +
			"No server may hold the folder. persist/FORMAT.md tells what becomes of the rows.",
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := f.parse(args[0])
			if err != nil {
				return err
			}
			c, err := a.load(cmd, config.ImportFile)
			if err != nil {
				return err
			}
			return a.importFile(cmd.Context(), c, job)
		},
	}
	addSettings(cmd, config.ImportFile)
	flags := cmd.Flags()
	flags.StringVar(&f.lineage, "lineage", "", "which market of the folder, such as live-coinmarketcap; needed where there are several")
	flags.StringVarP(&f.granularity, "granularity", "g", "", "raw, 1m, 5m, 15m, 1h, 4h or 1d: what the file holds; needed, the file does not say")
	flags.StringVar(&f.conflicts, "conflicts", "stop", "what becomes of rows that the lineage has with other values: stop, keep or replace")
	flags.BoolVar(&f.create, "create", false, "make the lineage if it is not there")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would happen, and change nothing")
	return cmd
}

// importJob is what to import.
type importJob struct {
	file, lineage  string
	granularity    market.Granularity
	policy         persist.ImportPolicy
	create, dryRun bool
	absent         bool // the lineage is to be made
}

var importPolicies = []string{persist.ImportStop: "stop", persist.ImportKeep: "keep", persist.ImportReplace: "replace"}

func (f *importFlags) parse(file string) (*importJob, error) {
	j := &importJob{file: file, lineage: f.lineage, create: f.create, dryRun: f.dryRun}
	if f.granularity == "" {
		return nil, usageError("--granularity is needed: say with what granularity the file was exported")
	}
	var ok bool
	if j.granularity, ok = market.ParseGranularity(f.granularity); !ok {
		return nil, usageError("--granularity: %q is not one of raw, 1m, 5m, 15m, 1h, 4h, 1d", f.granularity)
	}
	i := slices.Index(importPolicies, f.conflicts)
	if i < 0 {
		return nil, usageError("--conflicts: %q is not one of stop, keep, replace", f.conflicts)
	}
	j.policy = persist.ImportPolicy(i)
	if f.create && f.lineage == "" {
		return nil, usageError("--create: name the lineage with --lineage; a server reads live-coinmarketcap, or market-42 where 42 is its --market-seed")
	}
	if f.lineage != "" {
		if err := persist.CheckLineage(f.lineage); err != nil {
			return nil, usageError("--lineage: %w", err)
		}
	}
	return j, nil
}

// importFile does what the job asks for.
func (a *app) importFile(ctx context.Context, c *config.Loaded, j *importJob) error {
	if err := j.choose(c.Data); err != nil {
		return err
	}
	src, err := openSheet(j.file)
	if err != nil {
		return err
	}
	defer src.close()
	m := &intake{job: j, src: src, stderr: a.stderr, options: persist.Options{
		Dir: c.Data, Lineage: j.lineage, Logger: a.logger(c.Log), Retention: retention(c.Store), MinFreeBytes: c.Store.MinFree, Keys: c.StoreKeys,
		OnDamage: onDamage(c.Store.OnDamage),
	}}
	if err := m.survey(ctx); err != nil {
		return err
	}
	if err := m.check(ctx); err != nil {
		return err
	}
	switch {
	case m.sum.Conflicts > 0 && j.policy == persist.ImportStop:
		m.report("nothing was written")
		return exitWith(exitData, fmt.Errorf("%d conflicts: --conflicts keep leaves what is there, replace takes what the file says", m.sum.Conflicts))
	case j.dryRun:
		m.report("nothing was written: a dry run")
		return nil
	case m.sum.Written == 0 && (m.sum.Conflicts == 0 || j.policy == persist.ImportKeep):
		m.report("nothing had to be written")
		return nil
	}
	if err := m.write(ctx); err != nil {
		return err
	}
	m.report("")
	return nil
}

// choose finds out which lineage is meant, and whether it is there.
func (j *importJob) choose(dir string) error {
	names, err := persist.Lineages(dir)
	if j.create && (errors.Is(err, persist.ErrAbsent) || err == nil && !slices.Contains(names, j.lineage)) {
		j.absent = true
		return nil
	}
	if j.lineage, err = chooseLineage(dir, j.lineage); exitCode(err) == exitData {
		return exitWith(exitData, fmt.Errorf("%w; --create makes a lineage", err))
	}
	return err
}

func importError(dir string, err error) error {
	switch {
	case errors.Is(err, persist.ErrLocked):
		return exitWith(exitTemporary, fmt.Errorf("cannot import into %q: %w; stop its server first", dir, err))
	case errors.Is(err, persist.ErrAbsent):
		return exitWith(exitData, err)
	}
	return storeError(dir, err)
}
