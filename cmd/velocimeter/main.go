// Command velocimeter measures how fast crypto tokens change hands and streams
// it: one binary, an actor per token, REST and delta streams in front.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(context.Background())
	go obey(signals, cancel, os.Exit)
	os.Exit(newApp(os.Args[1:]).run(ctx))
}

// echo is how long a signal may come again and be the same one: timeout(1) and
// other supervisors signal the process and then its whole group.
const echo = time.Second

// obey stops the program in order at the first signal. One that comes later than
// an echo of it does not wait for the drain.
func obey(signals <-chan os.Signal, stop func(), exit func(code int)) {
	<-signals
	first := time.Now()
	stop()
	for range signals {
		if time.Since(first) >= echo {
			exit(exitInterrupted)
		}
	}
}
