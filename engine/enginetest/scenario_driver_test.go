package enginetest_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the traces of scenario files instead of comparing them")

// runScenarios runs every scenario file that matches the pattern and compares
// its traces; with -rewrite it writes them.
//
// A file is a sequence of steps. A step is lines of commands, a line "----",
// and the trace that the engine must leave, up to an empty line. Lines that
// begin with # are comments. The commands:
//
//	trace field…          fields whose changes the trace shows from here on
//	cadence 1m            the provider's cadence (1m at first)
//	poll +1m [n=9]        an answer that much later, n times; rows follow,
//	                      indented, each "id[-id] member=value…"
//	clock +5m             time passes
//	restart               the engine is stored and read back
//	show id field…        values as they are on the board
//	explain id            what the quality rules did to a token
//
// Members are price, cap, volume, supply, total, max, fdv, rank, dominance,
// p1h, p24h, p7d, selfcap, symbol, time (source time relative to the poll) and
// flags (rounded, unmapped_id). A value is a decimal number or null; "100+2i"
// adds 2 with every repetition of the poll, and a trailing "*id" multiplies by
// the token's id, so that tokens differ.
func runScenarios(t *testing.T, pattern string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("cannot find scenarios %q: %v", pattern, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runScenario(t, file) })
	}
}

func runScenario(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	run := newScenario(t, file)
	var out bytes.Buffer
	for _, s := range splitScenario(string(text)) {
		out.WriteString(s.commands)
		if !s.traced {
			continue
		}
		run.trace.Reset()
		run.line = s.line
		run.commands(s.commands)
		if got := run.trace.String(); got != s.want && !*rewrite {
			t.Errorf("%s:%d: trace is\n%s\nwant\n%s", file, s.line, got, s.want)
		}
		out.WriteString("----\n" + run.trace.String() + "\n")
	}
	if !*rewrite {
		return
	}
	if err := os.WriteFile(file, append(bytes.TrimRight(out.Bytes(), "\n"), '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// scenarioStep is one step of a file.
type scenarioStep struct {
	line           int // of its first command
	commands, want string
	traced         bool
}

func splitScenario(text string) (steps []scenarioStep) {
	lines := strings.SplitAfter(strings.TrimRight(text, "\n")+"\n", "\n")
	s := scenarioStep{line: 1}
	for i, line := range lines {
		switch {
		case line == "----\n":
			s.traced = true
		case !s.traced:
			s.commands += line
		case strings.TrimSpace(line) == "":
			steps = append(steps, s)
			s = scenarioStep{line: i + 2}
		default:
			s.want += line
		}
	}
	if s.commands != "" {
		steps = append(steps, s)
	}
	return steps
}
