// Command velocimeter measures how fast crypto tokens change hands and streams
// it: one binary, an actor per token, REST and delta streams in front.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-signals
		cancel()
		<-signals // the second one does not wait for the drain
		os.Exit(exitInterrupted)
	}()
	os.Exit(newApp(os.Args[1:]).run(ctx))
}
