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

// Actors that do not end in time may still have ticks to write: their store is
// not called complete, and the seqs that were reserved are not given out again.
func TestStuckActorsLeaveTheStoreUnclean(t *testing.T) {
	opts := persist.Options{Dir: t.TempDir(), Lineage: "test"}
	store, err := persist.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Reserve(100); err != nil {
		t.Fatal(err)
	}
	h := &house{log: slog.New(slog.DiscardHandler), store: store}
	err = h.step("actors", time.Nanosecond, func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	if exitCode(err) != exitIO || !h.stuck {
		t.Errorf("%v, stuck %v", err, h.stuck)
	}
	if err := h.closeStore(); err != nil {
		t.Error(err)
	}
	again, err := persist.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if rec := again.Recovery(); rec.Clean || rec.NextSeq != 101 {
		t.Errorf("clean %v, next seq %d", rec.Clean, rec.NextSeq)
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
