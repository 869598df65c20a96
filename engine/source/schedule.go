package source

import (
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Times of the schedule that are not configurable.
const (
	minuteWindow  = market.Minute      // a provider's request window
	maxRetryAfter = 15 * market.Minute // a longer Retry-After is not believed
	authRetry     = market.Hour        // a refused key is tried again at most this often
	refusedRetry  = 5 * market.Minute  // first wait after a refused request
	refusedCap    = market.Hour

	breakerAfter = 3  // failures in a row that open the breaker
	breakerClose = 2  // successes in a row that close it again
	slowFor      = 10 // successes at half speed after a rate limit

	retryCost = 10 // early retries cost this much of the retry budget …
	retryEarn = 1  // … and each success gives this much back: at most 10 % extra calls
	retryFull = 3 * retryCost
)

// Config says how often a provider is asked.
type Config struct {
	// Interval is the time between the starts of two fetches; default 60 s. A
	// shorter one costs credits: CoinMarketCap answers from a 60 s cache.
	Interval market.Millis
	// Backoff is the first wait after a failure, doubled by each further one;
	// default 2 s.
	Backoff market.Millis
	// MaxBackoff bounds that wait; default 5 min.
	MaxBackoff market.Millis
	// Seed makes the jitter; equal seeds give equal schedules.
	Seed uint64
	// Cost is what one fetch costs in credits; DayCredits and MonthCredits are
	// what the plan gives, 0 for no limit. The interval is lengthened so that at
	// most 95 % of them are spent, early retries included.
	Cost, DayCredits, MonthCredits int
}

func (c *Config) fill() {
	if c.Interval <= 0 {
		c.Interval = market.Minute
	}
	c.Interval = max(c.Interval, paced(market.Day, c.Cost, c.DayCredits), paced(31*market.Day, c.Cost, c.MonthCredits))
	if c.Backoff <= 0 {
		c.Backoff = 2 * market.Second
	}
	if c.MaxBackoff <= 0 {
		c.MaxBackoff = 5 * market.Minute
	}
}

// paced returns the shortest interval at which cost a fetch stays within 95 %
// of the credits of a period, with one retry to ten fetches.
func paced(period market.Millis, cost, credits int) market.Millis {
	if cost <= 0 || credits <= 0 {
		return 0
	}
	spend := int64(credits) * 95
	return market.Millis((int64(period)*int64(cost)*110 + spend - 1) / spend)
}

// State is how a provider is doing.
type State uint8

// The states.
const (
	StateClosed   State = iota // all is well
	StateBackoff               // failed lately, less than three times in a row
	StateOpen                  // the breaker is open: no calls until the probe is due
	StateHalfOpen              // the probe is out, or one success is still missing
	StateLimited               // a limit of the provider holds us back
	StateStopped               // key or plan refused: waits for a change of configuration
	numStates
)

var stateNames = [numStates]string{"closed", "backoff", "open", "half_open", "limited", "stopped"}

// String returns the state's name, fit for a log field or a metric label.
func (s State) String() string { return stateNames[s] }

// Schedule decides when a provider is asked next. At most one fetch is in
// flight. It is not safe for concurrent use.
type Schedule struct {
	cfg     Config
	state   State
	due     market.Time
	started market.Time
	flying  bool

	fails   int // transient failures in a row
	limits  int // rate limits in a row
	refused int // bad requests in a row
	good    int // successes in a row while half open
	slow    int // successes left at half speed
	retries int // retry budget
	rand    uint64
}

// NewSchedule returns a schedule whose first fetch is due at once.
func NewSchedule(cfg Config) *Schedule {
	cfg.fill()
	return &Schedule{cfg: cfg, retries: retryFull, rand: cfg.Seed}
}

// State returns how the provider is doing.
func (s *Schedule) State() State { return s.state }

// Interval returns the time between fetches: as configured, or longer where
// the credits do not last for that.
func (s *Schedule) Interval() market.Millis { return s.cfg.Interval }

// Next returns when the next fetch is due, never before now. ok is false while
// a fetch is in flight. However long the caller slept, one fetch is due, not many.
func (s *Schedule) Next(now market.Time) (due market.Time, ok bool) {
	return max(s.due, now), !s.flying
}

// Started notes that a fetch began.
func (s *Schedule) Started(now market.Time) {
	s.flying, s.started = true, now
	if s.state == StateOpen {
		s.state, s.good = StateHalfOpen, 0
	}
}

// Succeeded notes that the fetch in flight brought a good answer and returns
// when the next one is due.
func (s *Schedule) Succeeded(now market.Time) market.Time {
	s.flying = false
	s.fails, s.limits, s.refused = 0, 0, 0
	s.retries = min(s.retries+retryEarn, retryFull)
	s.good++
	if s.state != StateHalfOpen || s.good >= breakerClose {
		s.state = StateClosed
	}
	interval := s.cfg.Interval
	if s.slow > 0 {
		s.slow--
		interval *= 2
	}
	return s.until(now, s.started.Add(interval))
}

// Failed notes that the fetch in flight failed and returns when the next one
// is due. A nil error counts as an unknown transient failure.
func (s *Schedule) Failed(now market.Time, err *Error) market.Time {
	s.flying, s.good = false, 0
	if err == nil {
		err = &Error{}
	}
	switch err.Kind {
	case KindAuth, KindPlan:
		s.state = StateStopped
		return s.until(now, now.Add(authRetry))
	case KindRateDay:
		return s.limited(now, nextDay(now), market.Minute)
	case KindRateMonth:
		return s.limited(now, nextMonth(now), 10*market.Minute)
	case KindRateMinute, KindRateIP:
		return s.rateLimited(now, err.RetryAfter)
	case KindBadRequest:
		s.state = StateBackoff
		wait := doubled(refusedRetry, s.refused, refusedCap)
		s.refused++
		return s.until(now, now.Add(max(wait, s.cfg.Interval)))
	default:
		return s.transient(now, err.RetryAfter)
	}
}

// Cancelled notes that the fetch in flight was given up by us: it says nothing
// about the provider.
func (s *Schedule) Cancelled(now market.Time) market.Time {
	s.flying = false
	return s.until(now, s.started.Add(s.cfg.Interval))
}

// Reconfigured notes that key or plan may have changed: what was stopped is
// due at once.
func (s *Schedule) Reconfigured(now market.Time) {
	if s.state != StateStopped && s.state != StateLimited && s.refused == 0 {
		return
	}
	s.state, s.refused, s.limits = StateClosed, 0, 0
	s.due = now
}

func (s *Schedule) until(now, due market.Time) market.Time {
	s.due = max(now, due)
	return s.due
}

func (s *Schedule) limited(now, reset market.Time, spread market.Millis) market.Time {
	s.state = StateLimited
	return s.until(now, reset.Add(s.jitter(spread)))
}

// rateLimited waits a request window, longer each time, or what the provider
// asked for, and then goes on at half speed for a while.
func (s *Schedule) rateLimited(now market.Time, after market.Millis) market.Time {
	wait := doubled(minuteWindow, s.limits, maxRetryAfter)
	if after > 0 {
		wait = min(after, maxRetryAfter)
	}
	s.limits++
	s.slow = slowFor
	return s.limited(now, now.Add(wait), 5*market.Second)
}

// transient backs off exponentially and opens the breaker after three in a row.
// An early retry, before the regular interval is over, has to be paid for.
func (s *Schedule) transient(now market.Time, after market.Millis) market.Time {
	wait := doubled(s.cfg.Backoff, s.fails, s.cfg.MaxBackoff)
	wait = wait/2 + s.jitter(wait/2)
	s.fails++
	if s.fails >= breakerAfter || s.state == StateHalfOpen {
		s.state = StateOpen
	} else {
		s.state = StateBackoff
	}
	regular := s.started.Add(s.cfg.Interval)
	due := now.Add(max(wait, min(after, maxRetryAfter)))
	if s.state == StateOpen || s.retries < retryCost {
		due = max(due, regular)
	} else if due < regular {
		s.retries -= retryCost
	}
	return s.until(now, due)
}

// jitter returns a deterministic duration in [0, spread] (SplitMix64 of the seed).
func (s *Schedule) jitter(spread market.Millis) market.Millis {
	s.rand += 0x9E3779B97F4A7C15
	z := s.rand
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	z ^= z >> 31
	return market.Millis(z % uint64(spread+1))
}

// doubled returns first·2ⁿ, at most limit.
func doubled(first market.Millis, n int, limit market.Millis) market.Millis {
	for ; n > 0 && first < limit; n-- {
		first *= 2
	}
	return min(first, limit)
}

// nextDay returns the next midnight UTC, when daily credits are new.
func nextDay(now market.Time) market.Time {
	return now - now%market.Time(market.Day) + market.Time(market.Day)
}

// nextMonth returns the next first of a month, midnight UTC.
func nextMonth(now market.Time) market.Time {
	t := now.Std()
	return market.TimeOf(time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, time.UTC))
}
