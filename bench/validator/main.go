//go:build linux

// Command validator runs velocimeter under load and faults and checks its
// promises. It is the market that the server polls, so it knows every value that
// may be served; it reads the stream in both encodings, REST and history beside
// one another; it kills, freezes, starves and misleads the server; and after each
// fault it holds what is there against all that was ever shown. See README.md.
//
//	validator -binary bin/velocimeter -for 10m
//	validator -binary bin/velocimeter -seed 7 -faults kill,freeze -for 1m
//	validator -url 127.0.0.1:8080 -admin 127.0.0.1:9090 -pid PID -data DIR -for 1m
//
// It prints a line for each invariant and the command that repeats the run, and
// exits with 1 if one is violated, 2 if the run could not be made.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/velocimeter/velocimeter/bench/validator/ledger"
)

// settings are what the flags say.
type settings struct {
	binary, url, admin, data string
	pid                      int
	seed                     uint64
	tokens                   int
	rss                      uint64 // MiB
	length                   time.Duration
	faults                   string
	verbose                  bool
	keep                     bool
}

func main() {
	var c settings
	flag.StringVar(&c.binary, "binary", "bin/velocimeter", "the server, started and stopped as the faults ask")
	flag.StringVar(&c.url, "url", "", "host:port of a server that runs already: it is watched, without faults and without knowing its market")
	flag.StringVar(&c.admin, "admin", "127.0.0.1:9090", "host:port of that server's admin listener")
	flag.IntVar(&c.pid, "pid", 0, "process id of that server")
	flag.StringVar(&c.data, "data", "", "folder of that server's store, to be searched for secrets")
	flag.Uint64Var(&c.seed, "seed", 0, "seed of every choice; 0 for any")
	flag.IntVar(&c.tokens, "tokens", 60, "tokens of the market")
	flag.Uint64Var(&c.rss, "rss", 512, "limit of the resident set in MiB; GOMEMLIMIT is three quarters of it")
	flag.DurationVar(&c.length, "for", time.Minute, "how long; the fault under way is finished")
	flag.StringVar(&c.faults, "faults", "all", "faults to choose from, separated by commas: "+strings.Join(faultNames(), ", "))
	flag.BoolVar(&c.verbose, "v", false, "tell each fault as it comes")
	flag.BoolVar(&c.keep, "keep", false, "keep the store and the log after a violation")
	flag.Parse()
	for c.seed == 0 {
		c.seed = rand.Uint64N(1 << 32)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := validate(ctx, &c, os.Stdout)
	cancel()
	os.Exit(code) //nolint:forbidigo // the exit code is the verdict
}

// validate makes a run and prints its report; it returns the exit code.
func validate(ctx context.Context, c *settings, out io.Writer) int {
	r, err := newRun(ctx, c, out)
	if err == nil {
		err = r.all(ctx)
		r.close()
		r.report()
	}
	switch {
	case r != nil && !r.book.Sound():
		return 1
	case err != nil:
		_, _ = fmt.Fprintln(out, "validator:", err)
		return 2
	}
	return 0
}

// report prints the verdicts.
func (r *run) report() {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(r.out, format+"\n", args...) }
	var done []string
	for name, n := range r.done {
		done = append(done, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(done)
	line("seed %d, %s, %d starts, %d answers of the provider; faults: %s", r.cfg.seed, time.Since(r.begun).Round(time.Second), r.server.runs.Load(), r.answers(), strings.Join(done, ", "))
	for name, why := range r.skipped {
		line("skipped %s: %s", name, why)
	}
	line("resident %d MiB at most; ready after a start: %s at most", r.most.Load()>>20, time.Duration(r.slowest.Load()).Round(time.Millisecond))
	for _, v := range r.book.Verdicts() {
		state := "ok      "
		switch {
		case v.Invariant == ledger.Revoked:
			line("%-8s %10s  %v: comes with access control", "later", "", v.Invariant)
			continue
		case v.Violated > 0:
			state = "VIOLATED"
		case v.Checked == 0:
			state = "not seen"
		}
		line("%s %10d  %v", state, v.Checked, v.Invariant)
		if v.Violated > 0 {
			line("         %10d  violations, the first: %s", v.Violated, v.Example)
		}
	}
	line("repeat: %s", r.cfg.command())
}

// command is how to make the run again.
func (c *settings) command() string {
	if c.url != "" {
		return fmt.Sprintf("go run ./bench/validator -url %s -admin %s -pid %d -data %q -seed %d -for %s", c.url, c.admin, c.pid, c.data, c.seed, c.length)
	}
	return fmt.Sprintf("go run ./bench/validator -binary %s -seed %d -tokens %d -rss %d -faults %s -for %s", c.binary, c.seed, c.tokens, c.rss, c.faults, c.length)
}
