//go:build linux

// Command streamload opens many connections to a running velocimeter and tells
// what serving them costs: processor time and memory of the server, bytes,
// latency and gaps.
//
//	streamload -mode idle   -n 10000 -pid PID         memory of idle connections
//	streamload -mode paced  -n 5000 -tokens 20 -pid PID
//	streamload -mode stall  -n 1000 -share 0.1 -pid PID
//	streamload -mode storm  -n 10000                  kill -9 and restart the server when it says so
//	streamload -tls ...                               all of them encrypted
//
// One epoll loop on one thread does the measured work: pin it to a core of its
// own, and the server to another. A delivery is one row at one connection. The
// latency of a message is its arrival less its received_at, on one machine's
// clock and in the milliseconds that received_at has. Every run prints a line of
// JSON on the standard output and a readable line on the standard error.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"time"
)

// settings are what the flags say.
type settings struct {
	addr, mode, proto, label string
	options                  string // members of subscribe
	n, tokens, pid, reps     int
	core                     int
	tls                      bool
	dialing                  int
	seed                     uint64
	share                    float64
	warm, dur, base          time.Duration
}

func main() {
	var c settings
	flag.StringVar(&c.addr, "addr", "127.0.0.1:8080", "IPv4 address of the server")
	flag.BoolVar(&c.tls, "tls", false, "encrypt, and take any certificate")
	flag.StringVar(&c.mode, "mode", "paced", "idle, paced, stall or storm")
	flag.StringVar(&c.proto, "proto", "bin", "bin, json or socketio")
	flag.StringVar(&c.label, "label", "", "name in the report")
	flag.StringVar(&c.options, "options", `"digits":"compact"`, "more members of subscribe")
	flag.IntVar(&c.n, "n", 1000, "connections")
	flag.IntVar(&c.tokens, "tokens", 20, "random tokens of each connection; 0: all, -1: the same first one, -2: no subscription")
	flag.IntVar(&c.pid, "pid", 0, "process id of the server; 0: its cost is not measured")
	flag.IntVar(&c.core, "core", -1, "core whose time is told, whatever runs on it; -1: none")
	flag.IntVar(&c.reps, "reps", 1, "measured repetitions")
	flag.IntVar(&c.dialing, "dialing", 64, "handshakes at the same time; a storm has no limit")
	flag.Uint64Var(&c.seed, "seed", 1, "seed of the choice of tokens")
	flag.Float64Var(&c.share, "share", 0.1, "stall: share of the connections that stop reading")
	flag.DurationVar(&c.warm, "warm", 5*time.Second, "time after the last subscription before measuring")
	flag.DurationVar(&c.dur, "dur", 10*time.Second, "measured time of a repetition")
	flag.DurationVar(&c.base, "base", 5*time.Second, "time to measure the server without connections; 0: do not")
	flag.Parse()
	runtime.GOMAXPROCS(4) // the affinity says 1, and sampling must not wait for the loop
	if err := run(&c); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "streamload:", err)
		os.Exit(1) //nolint:forbidigo // main has no other way to fail
	}
}

func run(c *settings) error {
	modes := map[string]func(*load) error{"idle": idle, "paced": paced, "stall": stall, "storm": storm}
	mode := modes[c.mode]
	if mode == nil {
		return fmt.Errorf("cannot run mode %q: want idle, paced, stall or storm", c.mode)
	}
	l, err := newLoad(c)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	return mode(l)
}
