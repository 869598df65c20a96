package integrity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/persist"
)

// Defaults of a Config.
const (
	// Share of one processor that a pass takes at most.
	Share = 0.02
	// Tokens whose served values a pass computes again.
	Tokens = 1000
	// first is how long the first pass waits: the start has other things to do.
	first = 5 * time.Minute
)

// Errors of Begin.
var (
	ErrRunning = errors.New("a pass is running already")
	ErrStopped = errors.New("the program is stopping")
)

// Config joins a Checker to what it checks. All but Every, Tokens and Share is required.
type Config struct {
	Store   *persist.Store
	Engine  func(blob []byte) error // decodes the engine's state
	Board   func() *market.Board    // what is served; nil before the first tick
	Durable func() uint64           // newest durable seq
	Quality quality.Config
	Log     *slog.Logger

	Every  time.Duration // between two passes; 0: only those that are asked for
	Tokens int           // a pass; 0 is Tokens
	Share  float64       // of one processor; 0 is Share, 1 and more does not rest
}

// Checker runs passes. All methods are safe for concurrent use.
type Checker struct {
	cfg    Config
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{} // nil before Start
	ask    chan struct{}
	next   market.ID // where the next pass goes on; 0 anywhere

	running atomic.Bool
	mu      sync.Mutex
	last    *Report

	// What all passes together did.
	Passes, Failures, Records, Recomputed, TokensSeen, Values atomic.Uint64
	// Differences counts them by kind.
	Differences *prometheus.CounterVec
}

// New returns a Checker that does nothing yet.
func New(cfg Config) *Checker {
	if cfg.Tokens == 0 {
		cfg.Tokens = Tokens
	}
	switch {
	case cfg.Share == 0:
		cfg.Share = Share
	case cfg.Share >= 1:
		cfg.Share = 0
	}
	c := &Checker{cfg: cfg, ask: make(chan struct{}, 1)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.Differences = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "velocimeter_integrity_differences_total", Help: "What integrity passes found, by kind.",
	}, []string{"kind"})
	for _, kind := range []string{KindServed, KindTick, KindTotals} {
		c.Differences.WithLabelValues(kind)
	}
	return c
}

// Start begins to run passes, by the clock and when asked.
func (c *Checker) Start() {
	c.done = make(chan struct{})
	go c.run()
}

func (c *Checker) run() {
	defer close(c.done)
	timer := time.NewTimer(min(c.cfg.Every, first))
	defer timer.Stop()
	if c.cfg.Every == 0 {
		timer.Stop()
	}
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.ask:
			c.pass()
		case <-timer.C:
			if c.running.CompareAndSwap(false, true) {
				c.pass()
			}
			timer.Reset(c.cfg.Every)
		}
	}
}

// Cancel ends a pass that runs, and begins no other.
func (c *Checker) Cancel() { c.cancel() }

// Stop does what Cancel does and waits until nothing runs.
func (c *Checker) Stop(ctx context.Context) error {
	c.cancel()
	if c.done == nil {
		return nil
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Begin has a pass begin now. Errors: ErrRunning, ErrStopped.
func (c *Checker) Begin() error {
	if c.ctx.Err() != nil {
		return ErrStopped
	}
	if !c.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	c.ask <- struct{}{} // whoever sets running is the only one
	return nil
}

// Last returns the report of the newest pass that ended, nil before, and whether
// one runs.
func (c *Checker) Last() (last *Report, running bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last, c.running.Load()
}

// pass runs one and keeps its report.
func (c *Checker) pass() {
	defer c.running.Store(false)
	rep := &Report{Started: time.Now(), ByKind: map[string]uint64{}, told: c.tell}
	err := c.check(rep)
	rep.Took = time.Since(rep.Started)
	if c.ctx.Err() != nil {
		return // it did not get to its end, and nobody asks any more
	}
	if err != nil {
		c.Failures.Add(1)
		c.cfg.Log.Warn("the integrity pass could not be done", "error", err)
		return
	}
	c.Passes.Add(1)
	c.Records.Add(rep.Records)
	c.Recomputed.Add(rep.Recomputed)
	c.TokensSeen.Add(rep.Tokens)
	c.Values.Add(rep.Values)
	for kind, n := range rep.ByKind {
		c.Differences.WithLabelValues(kind).Add(float64(n))
	}
	c.mu.Lock()
	c.last = rep
	c.mu.Unlock()
	c.sum(rep)
}

// check does a pass. A panic, as damaged data may cause, costs the pass alone.
func (c *Checker) check(rep *Report) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	found, err := c.cfg.Store.Check(c.ctx, persist.CheckOptions{Engine: c.cfg.Engine, Share: c.cfg.Share})
	if err != nil {
		return err
	}
	rep.take(found)
	return c.served(c.ctx, rep)
}

// tell logs the first difference of each kind; the others are counted.
func (c *Checker) tell(d *Difference) {
	args := []any{"kind", d.Kind, "what", d.What}
	for _, a := range []struct {
		key   string
		value any
		known bool
	}{
		{"key", d.Key, d.Key != ""},
		{"token", uint32(d.Token), d.Token != 0},
		{"time", d.Time.Std(), d.Time != 0},
		{"from_seq", d.From, d.To != 0},
		{"to_seq", d.To, d.To != 0},
		{"field", d.Field, d.Field != ""},
		{"served", d.Served, d.Served != ""},
		{"recomputed", d.Recomputed, d.Recomputed != ""},
	} {
		if a.known {
			args = append(args, a.key, a.value)
		}
	}
	c.cfg.Log.Error("integrity: a difference", args...)
}

// sum logs how a pass ended.
func (c *Checker) sum(r *Report) {
	args := []any{
		"took_ms", r.Took.Milliseconds(), "records", r.Records, "recomputed", r.Recomputed, "tokens", r.Tokens, "values", r.Values,
		"seq", r.Seq, "differences", r.Count,
	}
	if r.Skipped != "" {
		args = append(args, "skipped", r.Skipped)
	}
	if r.OK() {
		c.cfg.Log.Info("integrity pass ended", args...)
		return
	}
	c.cfg.Log.Error("integrity pass found differences", append(args, "by_kind", r.ByKind)...)
}
