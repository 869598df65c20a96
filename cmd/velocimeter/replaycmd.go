package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/engine/tick"
	"github.com/velocimeter/velocimeter/transport/rest"
	"github.com/velocimeter/velocimeter/transport/upstream/recording"
)

func (a *app) replayCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay FILE",
		Short: "Compute every row of a recording without serving it",
		Long: "Runs a recording through the engine and writes every computed row as one JSON line: the token\n" +
			"object of the REST API plus seq and time. The way to check the arithmetic.",
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.load(cmd, config.ReplayFile)
			if err != nil {
				return err
			}
			out, _ := cmd.Flags().GetString("out")
			return a.replay(cmd.Context(), c, args[0], out)
		},
	}
	addSettings(cmd, config.ReplayFile)
	cmd.Flags().StringP("out", "o", "-", "where the rows go; - is standard output")
	return cmd
}

// replay computes a recording.
func (a *app) replay(ctx context.Context, c *config.Loaded, name, out string) (err error) {
	r, err := recording.Open(name)
	if err != nil {
		return exitWith(exitData, err)
	}
	defer r.Close() //nolint:errcheck // read only
	if r.Torn() {
		_, _ = fmt.Fprintf(a.stderr, "velocimeter: %q ends within an answer: it was being written when its recorder was stopped, and is left out\n", name)
	}
	to := a.stdout
	if out != "-" {
		if sameFile(name, out) {
			return usageError("--out %q is the recording itself", out)
		}
		f, err := createOutput(out)
		if err != nil {
			return exitWith(exitIO, fmt.Errorf("cannot create %q: %w", out, err))
		}
		to = f
		defer func() { err = errors.Join(err, f.finish(err == nil)) }()
	}
	sum, err := writeRows(ctx, r, qualityOf(c), to)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(a.stderr, "%d polls (%d unchanged, %d rejected), %d ticks, %d rows, %d tokens\n",
		sum.polls, sum.unchanged, sum.rejected, sum.ticks, sum.rows, sum.tokens)
	return nil
}

// output is a file that takes rows. A new or regular file is written beside its
// name and renamed at the end, so that the name never holds half a result;
// anything else that the name stands for (a pipe, a device, a link) is written
// to, not replaced.
type output struct {
	*os.File
	name string // "" when written in place
}

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

func createOutput(name string) (*output, error) {
	info, err := os.Lstat(name)
	if err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
		return &output{File: f}, err
	}
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*.partial")
	if err != nil {
		return nil, err
	}
	return &output{File: f, name: name}, f.Chmod(0o644)
}

func (o *output) finish(good bool) error {
	err := o.Close()
	switch {
	case o.name == "":
	case !good:
		_ = os.Remove(o.Name())
		return nil
	case err == nil:
		err = os.Rename(o.Name(), o.name)
	}
	if err != nil {
		return exitWith(exitIO, fmt.Errorf("cannot write %q: %w", o.Name(), err))
	}
	return nil
}

// summary counts what a replay did.
type summary struct{ polls, unchanged, rejected, ticks, rows, tokens int }

// batches is what writeRows reads from.
type batches interface {
	Next() (*market.Batch, error)
}

func writeRows(ctx context.Context, from batches, q quality.Config, to io.Writer) (sum summary, err error) {
	m := tick.NewMachine(tick.Config{Epoch: "replay", Shards: 1, NextSeq: 1, Quality: q})
	w := bufio.NewWriterSize(to, 1<<20)
	var line []byte
	emit := func(t *market.Tick) {
		sum.count(t)
		for c := range t.Changes {
			if line = appendRow(line[:0], t, c); err == nil {
				_, err = w.Write(line)
			}
		}
	}
	for err == nil {
		b, e := from.Next()
		if errors.Is(e, io.EOF) {
			break
		}
		if e != nil {
			return sum, exitWith(exitData, e)
		}
		if e := ctx.Err(); e != nil {
			return sum, e
		}
		m.Poll(b, b.ReceivedAt, emit)
	}
	sum.tokens = m.Engine.Board().Len()
	if e := w.Flush(); err == nil {
		err = e
	}
	if err != nil {
		return sum, exitWith(exitIO, fmt.Errorf("cannot write rows: %w", err))
	}
	return sum, nil
}

func (s *summary) count(t *market.Tick) {
	s.ticks++
	s.rows += t.Rows()
	if t.Kind != market.TickPoll {
		return
	}
	s.polls++
	switch t.Verdict {
	case market.Unchanged:
		s.unchanged++
	case market.Poisoned:
		s.rejected++
	case market.Accepted:
	}
}

// appendRow appends the REST token object with seq and time in front.
func appendRow(dst []byte, t *market.Tick, c *market.Change) []byte {
	dst = append(dst, `{"seq":`...)
	dst = strconv.AppendUint(dst, t.Env.Seq, 10)
	dst = append(dst, `,"time":"`...)
	dst = t.Env.Now.AppendRFC3339(dst)
	dst = append(dst, `",`...)
	start := len(dst)
	dst = rest.AppendToken(dst, c.Snap)
	dst = append(dst[:start], dst[start+1:]...) // the object's own brace
	return append(dst, '\n')
}
