package guard_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/velocimeter/velocimeter/actors/guard"
)

func TestDoKeepsStackOfPanic(t *testing.T) {
	var log bytes.Buffer
	g := guard.New(slog.New(slog.NewTextHandler(&log, nil)))
	if !g.Do("quiet", func() {}) {
		t.Error("a function that returned counts as panicked")
	}
	if g.Do("token", func() { explode() }) {
		t.Error("a panic counts as returned")
	}
	r := g.Reports()
	if len(r) != 1 || r[0].Actor != "token" || r[0].Reason != "boom" {
		t.Fatalf("reports = %+v", r)
	}
	if !strings.Contains(r[0].Stack, "explode") {
		t.Errorf("stack does not name the function that panicked:\n%s", r[0].Stack)
	}
	if !strings.Contains(log.String(), "actor panicked") {
		t.Errorf("log = %q", log.String())
	}
}

//go:noinline
func explode() { panic("boom") }

func TestPanicsAreBoundedAndThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		g := guard.New(slog.New(slog.NewTextHandler(&log, nil)))
		for range 100 {
			g.Do("token", func() { panic(strings.Repeat("x", 1000)) })
		}
		if got := strings.Count(log.String(), "\n"); got != 1 {
			t.Errorf("%d lines for 100 panics at one instant, want 1", got)
		}
		if g.Panics() != 100 || len(g.Reports()) != 16 {
			t.Errorf("counted %d, kept %d; want 100 and 16", g.Panics(), len(g.Reports()))
		}
		if got := len(g.Reports()[0].Reason); got != 256 {
			t.Errorf("reason of %d bytes, want 256", got)
		}
		<-time.After(time.Second)
		g.Do("token", func() { panic("late") })
		if !strings.Contains(log.String(), "not_logged_before=99") {
			t.Errorf("the next line does not say what was left out: %q", log.String())
		}
	})
}
