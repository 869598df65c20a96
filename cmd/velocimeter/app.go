package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/mattn/go-isatty"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
)

// app is the program with its outside world injected, so that a test runs it
// like any other value.
type app struct {
	args           []string
	env            func(string) (string, bool)
	environ        []string
	stdout, stderr io.Writer
	terminal       bool            // stderr is one
	started        func(addresses) // test hook: called when serve listens
}

func newApp(args []string) *app {
	return &app{
		args: args, env: config.OSEnv, environ: os.Environ(), stdout: os.Stdout, stderr: os.Stderr,
		terminal: isatty.IsTerminal(os.Stderr.Fd()),
	}
}

// run executes the command line and returns the process's exit code.
func (a *app) run(ctx context.Context) int {
	cmd := a.command()
	cmd.SetArgs(a.args)
	cmd.SetOut(a.stdout)
	cmd.SetErr(a.stderr)
	err := cmd.ExecuteContext(ctx)
	if err != nil {
		_, _ = fmt.Fprintf(a.stderr, "velocimeter: %v\n", err)
	}
	return exitCode(err)
}

// logger builds the program's log as configured: text on a terminal, JSON otherwise.
func (a *app) logger(c config.Log) *slog.Logger {
	opts := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "json" || c.Format == "auto" && !a.terminal {
		return slog.New(slog.NewJSONHandler(a.stderr, opts))
	}
	return slog.New(slog.NewTextHandler(a.stderr, opts))
}
