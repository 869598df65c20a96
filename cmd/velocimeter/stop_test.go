package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
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

// Whoever sends a signal twice within a moment means one stop; who comes back
// later does not want to wait.
func TestRepeatedSignals(t *testing.T) {
	f := func(want string, after ...time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			signals := make(chan os.Signal, 2)
			begun := time.Now()
			var did []string
			note := func(what string) { did = append(did, fmt.Sprint(what, time.Since(begun))) }
			done := make(chan struct{})
			go func() {
				defer close(done)
				obey(signals, func() { note("stop ") }, func(code int) { note(fmt.Sprintf("exit %d ", code)) })
			}()
			for _, d := range after {
				time.Sleep(time.Until(begun.Add(d)))
				signals <- syscall.SIGTERM
			}
			close(signals)
			<-done
			if got := strings.Join(did, ", "); got != want {
				t.Errorf("signals after %v: %q, want %q", after, got, want)
			}
		})
	}
	f("stop 1m0s", time.Minute)
	f("stop 0s", 0, 0)
	f("stop 0s", 0, 3*time.Millisecond, time.Second-1)
	f("stop 0s, exit 130 1s", 0, time.Second)
	f("stop 0s, exit 130 4s", 0, 3*time.Millisecond, 4*time.Second)
}

// A supervisor's doubled signal does not cost the store its clean end.
func TestDoubledSignalStopsInOrder(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	kid := startChild(t.Context(), t, data, "--market-tokens", "20", "--market-tick", "20ms")
	kid.until("a tick", func() bool {
		seq, ok := kid.gauge("velocimeter_market_seq")
		return ok && seq > 3
	})
	_ = kid.cmd.Process.Signal(syscall.SIGTERM)
	kid.until("the stop", func() bool { return strings.Contains(kid.log.String(), "shutting down") }) // else the kernel may join the two
	kid.end(syscall.SIGTERM)
	if code := kid.cmd.ProcessState.ExitCode(); code != exitOK || !strings.Contains(kid.log.String(), `"stopped"`) {
		t.Errorf("exit %d; log:\n%s", code, kid.log.String())
	}
}

// A server whose folder is removed says so and ends: it could not keep what it
// promises to.
func TestRemovedFolderEndsTheServer(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	kid := startChild(t.Context(), t, data, "--market-tokens", "20", "--market-tick", "20ms")
	kid.until("a tick", func() bool {
		seq, ok := kid.gauge("velocimeter_market_seq")
		return ok && seq > 3
	})
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	err := <-kid.ended
	if kid.cmd.ProcessState.ExitCode() != exitIO || !strings.Contains(kid.log.String(), "was removed or moved") {
		t.Errorf("%v:\n%s", err, kid.log.String())
	}
}

func TestFolderThatCannotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{file, filepath.Join(file, "data")} {
		o := runApp(t.Context(), nil, "serve", "--data", data, "--listen", freePort(t), "--admin-listen", freePort(t))
		if o.code != exitConfig || !strings.Contains(o.stderr, data) || !strings.Contains(o.stderr, "set data to a folder") {
			t.Errorf("%s: exit %d, %s", data, o.code, o.stderr)
		}
	}
}
