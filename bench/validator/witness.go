//go:build linux

package main

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/velocimeter/velocimeter/bench/validator/ledger"
)

// watch starts the witnesses.
func (r *run) watch(ctx context.Context) {
	ctx, r.watching = context.WithCancel(ctx)
	for _, w := range watchers(r.book, r.server, r.ids, r.cfg.seed) {
		r.loops.Go(func() { w.run(ctx, r.header) })
	}
	rng := rand.New(rand.NewPCG(r.cfg.seed, 9))
	reader := *r.reader // it has instants of its own
	reader.past = map[string][]byte{}
	r.every(ctx, 300*time.Millisecond, func() { _, _ = reader.tokensNow(ctx) })
	r.every(ctx, time.Second, func() {
		_ = r.reader.history(ctx, r.ids[rng.IntN(len(r.ids))])
		r.reader.instants(ctx, rng)
	})
	r.every(ctx, 700*time.Millisecond, func() { r.routes(ctx) })
	r.every(ctx, 150*time.Millisecond, func() { r.sample(ctx) })
}

// every repeats something that a server which is up should answer.
func (r *run) every(ctx context.Context, d time.Duration, f func()) {
	r.loops.Go(func() {
		for ctx.Err() == nil {
			if r.server.phase.Load() == up && !r.hush.Load() {
				f()
			}
			pause(ctx, d)
		}
	})
}

// routes asks what is searched for secrets only, as a client with keys does.
func (r *run) routes(ctx context.Context) {
	for _, path := range []string{
		"/api/v1/market", "/api/v1/movers", "/api/v1/tokens/1?detail=full", "/api/v1/tokens/2/velocity", "/api/v1/tokens/3/history?granularity=1m",
		"/api/v1/nothing", "/api/v1/tokens?limit=0", r.server.hidden,
	} {
		_, _, _ = r.server.ask(ctx, r.server.public, path, r.header)
	}
}

// sample reads the figures of a moment, and whether the server is what it says.
func (r *run) sample(ctx context.Context) {
	if rss := r.server.resident(); rss > 0 {
		r.most.Store(max(r.most.Load(), rss))
		r.book.Check(ledger.Memory, rss <= r.cfg.rss<<20, "the resident set is %d MiB, the limit is %d", rss>>20, r.cfg.rss)
	}
	r.readiness(ctx)
	if g, err := r.server.gauges(ctx); err == nil {
		r.book.Promised(uint64(g["velocimeter_storage_durable_seq"]))
	}
}

// readiness holds /readyz against what is served at the same time: a server that
// is ready has values, one that is not refuses.
func (r *run) readiness(ctx context.Context) {
	s := r.server
	run := s.runs.Load()
	before, body, err1 := s.get(ctx, s.public, "/readyz")
	status, data, err2 := s.get(ctx, s.public, "/api/v1/tokens?limit=1")
	after, _, err3 := s.get(ctx, s.public, "/readyz")
	if err1 != nil || err2 != nil || err3 != nil || s.phase.Load() != up || s.runs.Load() != run {
		return // it ended or began meanwhile
	}
	var told struct {
		Status string `json:"status"`
	}
	_ = json.Unmarshal(body, &told)
	var a answer
	_ = json.Unmarshal(data, &a)
	var rows []json.RawMessage
	_ = json.Unmarshal(a.Data, &rows)
	r.book.Check(ledger.Ready, (before == http.StatusOK) == (told.Status == "ready" || told.Status == "degraded"), "/readyz is %d and says %q", before, told.Status)
	switch {
	case before == http.StatusOK && after == http.StatusOK:
		r.book.Check(ledger.Ready, status == http.StatusOK && len(rows) == 1, "/readyz is 200, /tokens is %d: %.200s", status, data)
	case before != http.StatusOK && after != http.StatusOK:
		r.book.Check(ledger.Ready, status == http.StatusServiceUnavailable, "/readyz is %d, /tokens is %d: %.200s", before, status, data)
	}
}

// measure notes what the server uses while nobody is there.
func (r *run) measure(ctx context.Context) {
	pause(ctx, time.Second)
	r.baseGoroutines, r.baseDescriptors, _ = r.server.resources(ctx)
}

// released has all witnesses leave and checks that the server lets go of what it
// had for them.
func (r *run) released(ctx context.Context) {
	r.watching()
	r.loops.Wait()
	var goroutines, descriptors int
	var err error
	near := func(n, base int) bool { return n >= base-5 && n <= base+5 }
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, 250*time.Millisecond) {
		if goroutines, descriptors, err = r.server.resources(ctx); err == nil && near(goroutines, r.baseGoroutines) && near(descriptors, r.baseDescriptors) {
			break
		}
	}
	if ctx.Err() == nil && err == nil {
		r.book.Check(ledger.Released, near(goroutines, r.baseGoroutines), "30 s after the last client left there are %d goroutines, before the first came %d", goroutines, r.baseGoroutines)
		r.book.Check(ledger.Released, near(descriptors, r.baseDescriptors), "30 s after the last client left there are %d descriptors, before the first came %d", descriptors, r.baseDescriptors)
	}
}
