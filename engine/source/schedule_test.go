package source_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/source"
)

var start = market.TimeOf(time.Date(2026, 11, 20, 18, 30, 0, 0, time.UTC))

func at(t *testing.T, text string) market.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return market.TimeOf(v)
}

func TestClassify(t *testing.T) {
	f := func(status, code int, want source.Kind) {
		t.Helper()
		if got := source.Classify(status, code); got != want {
			t.Errorf("Classify(%d, %d) = %v, want %v", status, code, got, want)
		}
	}
	f(401, 1001, source.KindAuth)
	f(401, 1002, source.KindAuth)
	f(402, 1003, source.KindPlan)
	f(402, 1004, source.KindPlan)
	f(403, 1005, source.KindAuth)
	f(403, 1006, source.KindAuth)
	f(403, 1007, source.KindAuth)
	f(429, 1008, source.KindRateMinute)
	f(429, 1009, source.KindRateDay)
	f(429, 1010, source.KindRateMonth)
	f(429, 1011, source.KindRateIP)
	f(200, 1010, source.KindRateMonth)
	f(400, 400, source.KindBadRequest)
	f(400, 4001, source.KindBadRequest)
	f(500, 500, source.KindServer)
	f(429, 0, source.KindRateMinute)
	f(401, 0, source.KindAuth)
	f(402, 0, source.KindPlan)
	f(403, 0, source.KindAuth)
	f(404, 0, source.KindBadRequest)
	f(408, 0, source.KindTimeout)
	f(503, 0, source.KindServer)
	f(302, 0, source.KindInvalidPayload)
	f(200, 77, source.KindServer)
	f(200, 0, source.KindUnknown)
}

func TestErrorText(t *testing.T) {
	f := func(e source.Error, want string) {
		t.Helper()
		if got := e.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f(source.Error{Kind: source.KindRateDay, Status: 429, Code: 1009, Detail: "daily limit"}, "rate_day: status 429, code 1009: daily limit")
	f(source.Error{Kind: source.KindTimeout}, "timeout")
	f(source.Error{Kind: source.KindServer, Status: 502}, "server: status 502")
	f(source.Error{Kind: source.KindNetwork, Detail: "dns"}, "network: dns")
}

// After one failure at the given instant, the next fetch is due within [from, to].
func TestFirstFailure(t *testing.T) {
	f := func(now string, e source.Error, from, to string, state source.State) {
		t.Helper()
		s := source.NewSchedule(source.Config{Seed: 7})
		n := at(t, now)
		s.Started(n)
		due := s.Failed(n, &e)
		if due < at(t, from) || due > at(t, to) || s.State() != state {
			t.Errorf("%v: due %v, state %v; want %s…%s, %v", &e, due.Std(), s.State(), from, to, state)
		}
	}
	kind := func(k source.Kind) source.Error { return source.Error{Kind: k} }
	after := func(k source.Kind, d market.Millis) source.Error { return source.Error{Kind: k, RetryAfter: d} }

	f("2026-11-20T18:30:00Z", kind(source.KindAuth), "2026-11-20T19:30:00Z", "2026-11-20T19:30:00Z", source.StateStopped)
	f("2026-11-20T18:30:00Z", kind(source.KindPlan), "2026-11-20T19:30:00Z", "2026-11-20T19:30:00Z", source.StateStopped)
	f("2026-11-20T18:30:00Z", kind(source.KindRateDay), "2026-11-21T00:00:00Z", "2026-11-21T00:01:00Z", source.StateLimited)
	f("2026-11-20T00:00:00Z", kind(source.KindRateDay), "2026-11-21T00:00:00Z", "2026-11-21T00:01:00Z", source.StateLimited)
	f("2026-11-20T18:30:00Z", kind(source.KindRateMonth), "2026-12-01T00:00:00Z", "2026-12-01T00:10:00Z", source.StateLimited)
	f("2026-12-31T23:59:59Z", kind(source.KindRateMonth), "2027-01-01T00:00:00Z", "2027-01-01T00:10:00Z", source.StateLimited)
	f("2028-01-31T12:00:00Z", kind(source.KindRateMonth), "2028-02-01T00:00:00Z", "2028-02-01T00:10:00Z", source.StateLimited)
	f("2026-11-20T18:30:00Z", kind(source.KindRateMinute), "2026-11-20T18:31:00Z", "2026-11-20T18:31:05Z", source.StateLimited)
	f("2026-11-20T18:30:00Z", kind(source.KindRateIP), "2026-11-20T18:31:00Z", "2026-11-20T18:31:05Z", source.StateLimited)
	f("2026-11-20T18:30:00Z", after(source.KindRateMinute, 90*market.Second), "2026-11-20T18:31:30Z", "2026-11-20T18:31:35Z", source.StateLimited)
	f("2026-11-20T18:30:00Z", after(source.KindRateMinute, 1e9*market.Second), "2026-11-20T18:45:00Z", "2026-11-20T18:45:05Z", source.StateLimited)
	f("2026-11-20T18:30:00Z", after(source.KindRateMinute, -5), "2026-11-20T18:31:00Z", "2026-11-20T18:31:05Z", source.StateLimited)
	f("2026-11-20T18:30:00Z", kind(source.KindBadRequest), "2026-11-20T18:35:00Z", "2026-11-20T18:35:00Z", source.StateBackoff)
	f("2026-11-20T18:30:00Z", kind(source.KindServer), "2026-11-20T18:30:01Z", "2026-11-20T18:30:02Z", source.StateBackoff)
	f("2026-11-20T18:30:00Z", kind(source.KindTimeout), "2026-11-20T18:30:01Z", "2026-11-20T18:30:02Z", source.StateBackoff)
	f("2026-11-20T18:30:00Z", kind(source.KindInvalidPayload), "2026-11-20T18:30:01Z", "2026-11-20T18:30:02Z", source.StateBackoff)
	f("2026-11-20T18:30:00Z", after(source.KindServer, 40*market.Second), "2026-11-20T18:30:40Z", "2026-11-20T18:30:40Z", source.StateBackoff)
}

func TestCadence(t *testing.T) {
	s := source.NewSchedule(source.Config{Interval: 60 * market.Second})
	f := func(startedAt, doneAt, want market.Millis) {
		t.Helper()
		s.Started(start.Add(startedAt))
		if _, ok := s.Next(start); ok {
			t.Error("a second fetch was offered while one is in flight")
		}
		if due := s.Succeeded(start.Add(doneAt)); due != start.Add(want) {
			t.Errorf("due %d ms after the start, want %d", due.Sub(start), want)
		}
	}
	if due, ok := s.Next(start); !ok || due != start {
		t.Errorf("the first fetch is due %v, want at once", due.Std())
	}
	f(0, 2000, 60_000)           // from start to start, not from end to start
	f(60_000, 135_000, 135_000)  // slower than the interval: at once, never two
	f(900_000, 901_000, 960_000) // after a long sleep the missed ones are not made up for
	if due, _ := s.Next(start.Add(5_000_000)); due != start.Add(5_000_000) {
		t.Error("an overdue fetch is not due now")
	}
}

func TestBreaker(t *testing.T) {
	s := source.NewSchedule(source.Config{Seed: 3})
	now := start
	f := func(fail bool, want source.State, minWait, maxWait market.Millis) {
		t.Helper()
		now, _ = s.Next(now)
		s.Started(now)
		var due market.Time
		if fail {
			due = s.Failed(now, &source.Error{Kind: source.KindServer})
		} else {
			due = s.Succeeded(now)
		}
		if wait := due.Sub(now); s.State() != want || wait < minWait || wait > maxWait {
			t.Errorf("state %v, wait %d ms; want %v, %d…%d", s.State(), wait, want, minWait, maxWait)
		}
	}
	f(true, source.StateBackoff, 1000, 2000)
	f(true, source.StateBackoff, 2000, 4000)
	f(true, source.StateOpen, 60_000, 60_000)
	f(true, source.StateOpen, 60_000, 60_000) // the probe failed
	f(false, source.StateHalfOpen, 60_000, 60_000)
	f(true, source.StateOpen, 60_000, 60_000) // one success was not enough
	f(false, source.StateHalfOpen, 60_000, 60_000)
	f(false, source.StateClosed, 60_000, 60_000)
	f(true, source.StateBackoff, 1000, 2000)
	f(true, source.StateBackoff, 60_000, 60_000) // the retry budget is spent
	for range 20 {
		now, _ = s.Next(now)
		s.Started(now)
		s.Failed(now, &source.Error{Kind: source.KindTimeout})
	}
	f(true, source.StateOpen, 150_000, 300_000)
}

func TestRateLimitSlowsDown(t *testing.T) {
	s := source.NewSchedule(source.Config{})
	now := start
	f := func(e *source.Error, minWait, maxWait market.Millis) {
		t.Helper()
		now, _ = s.Next(now)
		s.Started(now)
		var due market.Time
		if e != nil {
			due = s.Failed(now, e)
		} else {
			due = s.Succeeded(now)
		}
		if wait := due.Sub(now); wait < minWait || wait > maxWait {
			t.Errorf("wait %d ms, want %d…%d", wait, minWait, maxWait)
		}
	}
	limit := &source.Error{Kind: source.KindRateMinute}
	f(nil, 60_000, 60_000)
	f(limit, 60_000, 65_000)
	f(limit, 120_000, 125_000)
	f(limit, 240_000, 245_000)
	for range 10 {
		f(nil, 120_000, 120_000)
	}
	f(nil, 60_000, 60_000)
}

func TestReconfigured(t *testing.T) {
	s := source.NewSchedule(source.Config{})
	s.Started(start)
	s.Failed(start, &source.Error{Kind: source.KindAuth})
	s.Reconfigured(start.Add(1000))
	if due, ok := s.Next(start.Add(1000)); !ok || due != start.Add(1000) || s.State() != source.StateClosed {
		t.Errorf("due %v, state %v after a new key; want at once", due.Std(), s.State())
	}
	s.Started(start.Add(1000))
	s.Succeeded(start.Add(2000))
	s.Reconfigured(start.Add(3000))
	if due, _ := s.Next(start.Add(3000)); due != start.Add(61_000) {
		t.Error("a change of configuration moved a healthy schedule")
	}
}

func TestCancelledSaysNothing(t *testing.T) {
	s := source.NewSchedule(source.Config{})
	s.Started(start)
	if due := s.Cancelled(start.Add(10)); due != start.Add(60_000) || s.State() != source.StateClosed {
		t.Errorf("due %v, state %v", due.Std(), s.State())
	}
}

// A random provider for 30 simulated days: never early, never two at once,
// nothing sooner than its class allows, at most 10 % more calls than intervals.
func TestRandomWalk(t *testing.T) {
	kinds := []source.Kind{
		source.KindServer, source.KindTimeout, source.KindNetwork, source.KindInvalidPayload,
		source.KindRateMinute, source.KindRateDay, source.KindAuth, source.KindBadRequest,
	}
	floor := map[source.Kind]market.Millis{
		source.KindRateMinute: 60_000, source.KindAuth: 3_600_000, source.KindBadRequest: 300_000,
	}
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := source.NewSchedule(source.Config{Seed: seed})
		now, end, calls := start, start.Add(30*market.Day), 0
		for now < end {
			due, ok := s.Next(now)
			if !ok || due < now {
				t.Fatalf("seed %d: next is due %v at %v (offered: %v)", seed, due.Std(), now.Std(), ok)
			}
			now = due
			s.Started(now)
			calls++
			done := now.Add(market.Millis(r.IntN(3000)))
			if r.IntN(10) > 0 {
				s.Succeeded(done)
				continue
			}
			k := kinds[r.IntN(len(kinds))]
			if next := s.Failed(done, &source.Error{Kind: k}); next.Sub(done) < floor[k] {
				t.Fatalf("seed %d: %v retried after %d ms", seed, k, next.Sub(done))
			}
		}
		if most := int(end.Sub(start) / market.Minute * 11 / 10); calls > most {
			t.Errorf("seed %d: %d calls in 30 days, want ≤ %d", seed, calls, most)
		}
	}
}

func TestDeterministic(t *testing.T) {
	run := func() (out []market.Time) {
		s := source.NewSchedule(source.Config{Seed: 42})
		now := start
		for i := range 50 {
			now, _ = s.Next(now)
			s.Started(now)
			if i%3 == 0 {
				out = append(out, s.Succeeded(now))
			} else {
				out = append(out, s.Failed(now, &source.Error{Kind: source.KindServer}))
			}
		}
		return out
	}
	a, b := run(), run()
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("step %d: %v and %v with the same seed", i, a[i].Std(), b[i].Std())
		}
	}
}

// 30 days with the given credits: how many fetches there are, at most and at
// least, when one in seven fails.
func TestBudget(t *testing.T) {
	f := func(cost, day, month, atLeast int) {
		t.Helper()
		s := source.NewSchedule(source.Config{Cost: cost, DayCredits: day, MonthCredits: month, Seed: 5})
		now, end, calls, today, dayStart := start, start.Add(30*market.Day), 0, 0, start
		for i := 0; ; i++ {
			if now, _ = s.Next(now); now >= end {
				break
			}
			if now.Sub(dayStart) >= market.Day {
				today, dayStart = 0, now
			}
			calls++
			today++
			if day > 0 && today*cost*100 > day*95+cost*200 { // a fetch at either end of the day
				t.Fatalf("cost %d: %d credits in a day of %d", cost, today*cost, day)
			}
			s.Started(now)
			if i%7 == 0 {
				s.Failed(now, &source.Error{Kind: source.KindTimeout})
			} else {
				s.Succeeded(now)
			}
		}
		if month > 0 && calls*cost*100 > month*95 || calls*cost < atLeast {
			t.Errorf("cost %d: %d credits in 30 days, want ≥ %d and ≤ 95 %% of %d", cost, calls*cost, atLeast, month)
		}
	}
	f(1, 0, 15_000, 11_000)
	f(3, 0, 10_000, 7_500)
	f(25, 333, 0, 7_000)
	f(1, 333, 10_000, 7_000)
	f(1, 0, 0, 43_000)
}
