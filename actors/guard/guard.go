// Package guard keeps what protoactor would lose when an actor panics: the
// stack. It also holds the supervision of everything that is not a token.
package guard

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

const (
	// interval is the least time between two logged panics.
	interval = time.Second
	// maxReports bounds the kept reports; the newest win.
	maxReports = 16
	// maxReason and maxStack bound the bytes of one report.
	maxReason = 256
	maxStack  = 8 << 10
)

// Report is one recovered panic.
type Report struct {
	Actor  string
	Reason string // at most 256 bytes
	Stack  string // at most 8 KiB; empty while panics come faster than one a second
	At     time.Time
}

// Guard counts recovered panics, keeps the newest 16 and logs at most one a
// second. Safe for concurrent use.
type Guard struct {
	log    *slog.Logger
	panics atomic.Uint64

	mu      sync.Mutex
	next    time.Time // no log line before
	skipped uint64    // panics since the last log line
	reports []Report
}

// New returns a guard that logs to log.
func New(log *slog.Logger) *Guard { return &Guard{log: log} }

// Panics counts what was recovered so far.
func (g *Guard) Panics() uint64 { return g.panics.Load() }

// Reports returns the newest panics, oldest first.
func (g *Guard) Reports() []Report {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]Report(nil), g.reports...)
}

// Panicked takes the value of a recover. It must be called by the deferred
// function itself: the stack of the panic is gone when that returns.
func (g *Guard) Panicked(name string, reason any) {
	g.panics.Add(1)
	r := Report{Actor: name, Reason: cut(fmt.Sprint(reason), maxReason), At: time.Now()}
	loud, skipped := g.admit(r.At)
	if loud {
		r.Stack = cut(string(debug.Stack()), maxStack)
		g.log.Error("actor panicked", "actor", name, "reason", r.Reason, "stack", r.Stack, "not_logged_before", skipped)
	}
	g.keep(r)
}

// Do runs f and reports whether it returned: a panic is recovered and kept.
func (g *Guard) Do(name string, f func()) (ok bool) {
	defer func() {
		if r := recover(); r != nil {
			g.Panicked(name, r)
		}
	}()
	f()
	return true
}

func (g *Guard) admit(now time.Time) (loud bool, skipped uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Before(g.next) {
		g.skipped++
		return false, 0
	}
	g.next = now.Add(interval)
	skipped, g.skipped = g.skipped, 0
	return true, skipped
}

func (g *Guard) keep(r Report) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.reports) == maxReports {
		copy(g.reports, g.reports[1:])
		g.reports = g.reports[:maxReports-1]
	}
	g.reports = append(g.reports, r)
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// Resume supervises actors whose state is their own struct: the message that
// panicked is dropped, the actor goes on with the next one. It never stops an
// actor and never loops, since every failure uses up one message.
type Resume struct{}

var _ actor.SupervisorStrategy = (*Resume)(nil)

// HandleFailure implements actor.SupervisorStrategy.
func (*Resume) HandleFailure(
	_ *actor.ActorSystem, s actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, _, _ any,
) {
	s.ResumeChildren(child)
}
