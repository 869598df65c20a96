package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
	"github.com/velocimeter/velocimeter/transport/upstream/recording"
)

// recordLimits say when a recording ends by itself; 0 for never.
type recordLimits struct {
	span  time.Duration
	polls int
	bytes int64
}

func (a *app) recordCommand() *cobra.Command {
	var limits recordLimits
	var more bool
	cmd := &cobra.Command{
		Use:   "record FILE",
		Short: "Poll the provider and write its answers to a file that can be replayed",
		Long: "Polls what `serve` would poll, with the same settings and keys, and appends every answer as it\n" +
			"came to FILE, one line a poll; gzipped where the name ends in .gz. Without a key it records the\n" +
			"embedded simulated market. `serve --replay FILE` and `replay FILE` read the file, also after a\n" +
			"kill: each answer is on disk before the next poll. Keys are never written.",
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			span, _ := cmd.Flags().GetString("for")
			var err error
			if limits.span, err = positiveSpan(span); err != nil {
				return usageError("--for: %w", err)
			}
			if limits.polls < 0 || limits.bytes < 0 {
				return usageError("--polls and --max-bytes must not be negative")
			}
			c, err := a.load(cmd, config.RecordFile)
			if err != nil {
				return err
			}
			return a.record(cmd.Context(), c, args[0], more, limits)
		},
	}
	addSettings(cmd, config.RecordFile)
	cmd.Flags().String("for", "", "end after this `duration`, such as 90s, 2h or 7d")
	cmd.Flags().IntVar(&limits.polls, "polls", 0, "end after so many polls; 0: no limit")
	cmd.Flags().Int64Var(&limits.bytes, "max-bytes", 0, "end before the file is larger than this; 0: no limit but 4 GiB of text")
	cmd.Flags().BoolVar(&more, "append", false, "go on in a file that record wrote")
	return cmd
}

// oneFile is the argument check of commands that work on a file.
func oneFile(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return usageError("%s needs one file; `%s --help` shows how", cmd.CommandPath(), cmd.CommandPath())
	}
	return nil
}

func positiveSpan(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := config.ParseDuration(text)
	if err == nil && d <= 0 {
		err = fmt.Errorf("%q is not above 0", text)
	}
	return d, err
}

// record polls into a file until ctx or a limit ends it.
func (a *app) record(ctx context.Context, c *config.Loaded, name string, more bool, limits recordLimits) (err error) {
	log := a.logger(c.Log)
	r := &recorder{log: log, limits: limits}
	if len(c.CoinMarketCap.Keys) > 0 {
		r.feed, err = openCoinMarketCap(c, log, r.take)
	} else {
		r.feed, err = openMarket(c, log, &liveClock{}, r.take)
	}
	if err != nil {
		return err
	}
	defer r.feed.close()
	if r.file, err = a.openRecording(name, more, limits.bytes); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(a.stderr, "velocimeter: recording to %s: %s\n", name, r.feed.about)
	why, err := r.run(ctx)
	return a.endRecording(r, name, why, err)
}

// endRecording closes the file, removes one that holds nothing, and sums up.
func (a *app) endRecording(r *recorder, name, why string, err error) error {
	if e := r.file.Close(); e != nil && err == nil {
		err = exitWith(exitIO, fmt.Errorf("cannot close recording %q: %w", name, e))
	}
	if r.file.Polls() == 0 {
		if e := os.Remove(name); e != nil && err == nil {
			err = exitWith(exitIO, fmt.Errorf("cannot remove empty recording: %w", e))
		}
	}
	if why != "" {
		why = "ended by " + why + ": "
	}
	_, _ = fmt.Fprintf(a.stderr, "velocimeter: %s%d polls recorded, %d failed; %s has %d polls, %d bytes\n",
		why, r.done, r.failed, name, r.file.Polls(), r.file.Size())
	return err
}

func (a *app) openRecording(name string, more bool, limit int64) (*recording.Writer, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		return nil, usageError("%q is not a regular file", name)
	case !more:
		return nil, usageError("%q exists; --append goes on in it", name)
	default:
		w, torn, err := recording.Append(name, limit)
		if err != nil {
			return nil, exitWith(exitData, err)
		}
		if torn {
			_, _ = fmt.Fprintf(a.stderr, "velocimeter: %q ended within an answer, which was cut off\n", name)
		}
		return w, nil
	}
	w, err := recording.Create(name, limit)
	if errors.Is(err, os.ErrExist) {
		return nil, usageError("%q exists; --append goes on in it", name)
	}
	return w, exitWith(exitIO, err)
}
