package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/persist"
)

// Actors that do not end in time may still write: their store is not touched.
func TestStuckActorsKeepTheStore(t *testing.T) {
	h := &house{log: slog.New(slog.DiscardHandler)}
	err := h.step("actors", time.Nanosecond, func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	if exitCode(err) != exitIO || !h.stuck {
		t.Errorf("%v, stuck %v", err, h.stuck)
	}
	if err := h.closeStore(); err != nil { // there is none: touching it would panic
		t.Error(err)
	}
}

// A failed store is reported once, by whoever found it.
func TestFatalStoreIsToldOnce(t *testing.T) {
	h := &house{log: slog.New(slog.DiscardHandler)}
	f := func(stage string, err error, code int) {
		t.Helper()
		if got := h.step(stage, time.Minute, func(context.Context) error { return err }); exitCode(got) != code {
			t.Errorf("%s, %v: %v", stage, err, got)
		}
	}
	f("actors", fmt.Errorf("cannot commit: %w", persist.ErrFatal), exitOK)
	f("actors", errors.New("something else"), exitIO)
	f("streams", context.DeadlineExceeded, exitOK)
	f("requests", nil, exitOK)
	if h.stuck {
		t.Error("nothing hung")
	}
}
