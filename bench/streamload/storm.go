//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// storm waits for the server to be killed and started again, and comes back with
// all connections at once when it answers /readyz.
func storm(l *load) error {
	if _, _, err := l.start(); err != nil {
		return err
	}
	before, stop := l.sampleREST(true), make(chan struct{})
	go before.run(stop)
	l.runFor(3 * time.Second)
	close(stop)
	l.redial = true
	say("connected: kill the server now")
	for l.live > 0 {
		l.turn(20 * time.Millisecond)
	}
	gone := time.Now()
	first, last := l.positions()
	say("all connections are gone: start the server now")
	for !l.readyAgain() {
		if time.Since(gone) > time.Minute {
			return errors.New("cannot come back: the server is not ready after a minute")
		}
		<-time.After(5 * time.Millisecond)
	}
	begin := time.Now()
	for _, c := range l.waiting {
		c.notBefore = begin
	}
	kept, fresh := l.sampleREST(true), l.sampleREST(false)
	stop = make(chan struct{})
	go kept.run(stop)
	go fresh.run(stop)
	l.limit = len(l.conns)
	l.refused, l.received = 0, tally{}
	for l.live < len(l.conns) && time.Since(begin) < time.Minute {
		l.turn(5 * time.Millisecond)
	}
	close(stop)
	r := l.result(0)
	r.DownSeconds = begin.Sub(gone).Seconds()
	l.outcome(r, begin)
	r.RestBefore, r.RestKept, r.RestFresh = before.outcome(), kept.outcome(), fresh.outcome()
	r.print()
	r.OldestPosition, r.NewestPosition = first, last
	_, _ = fmt.Fprintf(os.Stderr, "  positions %d to %d when the server was gone\n", first, last)
	_, _ = fmt.Fprintf(os.Stderr, "  down %.2f s; back: %d of %d after %.2f s, half after %.2f s; recovered %d, whole %d; REST %+v before, then %+v on one connection, %+v on new ones\n",
		r.DownSeconds, l.live, r.N, r.BackSeconds, r.BackMedian, r.Recovered, r.Whole, *r.RestBefore, *r.RestKept, *r.RestFresh)
	return nil
}

// positions returns the oldest and the newest position of the clients: where the
// server stored less than the newest, those cannot resume.
func (l *load) positions() (first, last uint64) {
	first = l.conns[0].position
	for _, c := range l.conns {
		first, last = min(first, c.position), max(last, c.position)
	}
	return first, last
}

func (l *load) outcome(r *result, begin time.Time) {
	var back []float64
	for _, c := range l.conns {
		if c.phase != live {
			continue
		}
		back = append(back, c.back.Sub(begin).Seconds())
		if c.recovered {
			r.Recovered++
		} else {
			r.Whole++
		}
	}
	slices.Sort(back)
	if n := len(back); n > 0 {
		r.BackSeconds, r.BackMedian = back[n-1], back[n/2]
	}
	r.Messages, r.Rows, r.Snapshots, r.Bad, r.Gaps = l.received.messages, l.received.rows, l.received.snapshots, l.received.bad, l.received.gaps
	r.Refused, r.Dropped = l.refused, l.dropped
}

// readyAgain asks the server whether it serves.
func (l *load) readyAgain() bool {
	one := asker{load: l}
	defer one.close()
	status, err := one.get("/readyz")
	return err == nil && status == 200
}

// sampler measures REST beside the storm, with one kept connection or with a new
// one for every request.
type sampler struct {
	asker
	times  histogram
	failed int
	done   chan struct{}
}

func (l *load) sampleREST(keep bool) *sampler {
	return &sampler{asker: asker{load: l, keep: keep}, done: make(chan struct{})}
}

func (s *sampler) run(stop chan struct{}) {
	defer close(s.done)
	defer s.close()
	for {
		select {
		case <-stop:
			return
		case <-time.After(10 * time.Millisecond):
		}
		begin := time.Now()
		status, err := s.get("/api/v1/tokens?limit=100")
		if err != nil || status != 200 {
			s.failed++
			continue
		}
		s.times.add(time.Since(begin).Microseconds())
	}
}

// outcome is what a sampler found, in ms.
type outcome struct {
	Calls, Failed  int
	P50, P99, Most float64
}

func (s *sampler) outcome() *outcome {
	<-s.done
	return &outcome{int(s.times.total), s.failed, s.times.quantile(0.5), s.times.quantile(0.99), float64(s.times.most) / 1000}
}

func say(what string) { _, _ = fmt.Fprintln(os.Stderr, "streamload:", what) }
