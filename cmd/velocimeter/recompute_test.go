package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/enginetest"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/transport/upstream/recording"
)

// The whole engine against plain arithmetic: what follows reads the recording
// with encoding/json, decides with the rules as their document states them, and
// recomputes every published statistic from the samples that a window retains.
// It shares no code with the engine's windows, rules or decimals.

const recordedSeries = "../shared/data/series/coinlore_27coins_2025-10-31_2025-11-30.jsonl.gz"

func recordedFile(t testing.TB) string {
	t.Helper()
	name := filepath.Join("..", "..", filepath.FromSlash(recordedSeries))
	if _, err := os.Stat(name); err != nil {
		t.Skipf("%s is not here: recordings are not part of the repository", recordedSeries)
	}
	return name
}

type plainPoll struct {
	Time  time.Time `json:"last_updated"`
	Coins []plainCoin
}

type plainCoin struct {
	Symbol string
	Price  *float64 `json:"price_usd"`
	Cap    *float64 `json:"market_cap_usd"`
	Volume *float64 `json:"volume_24h"`
}

func readPlain(t *testing.T, name string) (polls []plainPoll) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var text io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		if text, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	for dec := json.NewDecoder(text); ; {
		var p plainPoll
		if err := dec.Decode(&p); err == io.EOF {
			return polls
		} else if err != nil {
			t.Fatal(err)
		}
		polls = append(polls, p)
	}
}

// row is the part of an output line that is checked.
type row struct {
	Time      time.Time
	Updated   time.Time `json:"updated_at"`
	Symbol    string
	Price     *float64
	MarketCap *float64 `json:"market_cap"`
	Volume    *float64 `json:"volume_24h"`
	Velocity  *float64
	Trend     map[string]struct {
		Direction string
		Change    *float64 `json:"change_pct"`
		Slope     *float64 `json:"slope_per_hour"`
		Coverage  float64
	} `json:"velocity_trend"`
	VWAP       map[string]*float64
	Volatility *float64 `json:"volatility_24h"`
	Flags      []string
}

// plainRule is the step rule of one input.
type plainRule struct {
	floor    float64
	last     float64 // last accepted value
	steps    []float64
	accepted int
	jumps    []float64 // values of the consecutive samples that jumped
}

// judge returns whether x jumps and whether a run of jumps is now confirmed.
func (r *plainRule) judge(x float64) (jump, confirmed bool) {
	if r.accepted < 8 {
		return false, false
	}
	limit := r.limit()
	if distance(x, r.last) <= limit {
		r.jumps = nil
		return false, false
	}
	r.jumps = append(r.jumps, x)
	n := len(r.jumps)
	if n < 3 {
		return true, false
	}
	three := r.jumps[n-3:]
	return true, distance(slices.Max(three), slices.Min(three)) <= limit
}

func (r *plainRule) limit() float64 {
	sorted := slices.Clone(r.steps[max(0, len(r.steps)-31):])
	slices.Sort(sorted)
	n := len(sorted)
	median := sorted[n/2]
	if n%2 == 0 {
		median = (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return max(6*1.4826*median, r.floor)
}

func (r *plainRule) accept(x float64) {
	if r.accepted > 0 {
		r.steps = append(r.steps, distance(x, r.last))
	}
	r.last = x
	r.accepted++
	r.jumps = nil
}

func distance(a, b float64) float64 {
	if a == b {
		return 0
	}
	return math.Abs(math.Log(a / b))
}

// plainToken is one token, recomputed.
type plainToken struct {
	ref   *enginetest.Reference
	rules [3]plainRule // price, cap, volume
	held  []enginetest.Sample
	level float64 // frozen reference; NaN while none
	flags []string
}

func newPlainToken() *plainToken {
	return &plainToken{
		ref: enginetest.NewReference(enginetest.ReferenceConfig{}), level: math.NaN(),
		rules: [3]plainRule{{floor: math.Log(1.10)}, {floor: math.Log(1.10)}, {floor: math.Log(1.5)}},
	}
}

var outlierNames = [3]string{"outlier_price", "outlier_cap", "outlier_volume"}

// take judges one sample and, if it passes, gives it to the reference.
func (p *plainToken) take(s enginetest.Sample, capUSD float64) {
	p.flags = nil
	levelOut := p.levelOut(s)
	jumped, waiting := false, false
	for i, x := range [3]float64{s.Price, capUSD, s.Volume} {
		r := &p.rules[i]
		if i == 2 && levelOut {
			p.flags = append(p.flags, outlierNames[i])
			continue
		}
		jump, confirmed := r.judge(x)
		switch {
		case jump && !confirmed:
			p.flags = append(p.flags, outlierNames[i])
			jumped, waiting = true, true
		case jump:
			jumped = true
			r.accept(x)
		default:
			r.accept(x)
		}
	}
	if !jumped {
		p.held = nil
	}
	if waiting {
		p.held = append(p.held, s)
		return
	}
	if levelOut {
		return
	}
	for _, h := range p.held[max(0, len(p.held)-2):] {
		p.ref.Add(h)
	}
	p.held = nil
	p.ref.Add(s)
}

func (p *plainToken) levelOut(s enginetest.Sample) bool {
	if s.Velocity <= 0.5 {
		p.level = math.NaN()
		return false
	}
	if math.IsNaN(p.level) {
		var v []float64
		for _, c := range p.ref.Inside(market.Period7d) {
			v = append(v, c.Velocity)
		}
		if len(v) < 8 {
			return false
		}
		slices.Sort(v)
		m := v[len(v)/2]
		if len(v)%2 == 0 {
			m = (v[len(v)/2-1] + v[len(v)/2]) / 2
		}
		if s.Velocity > 10*m {
			p.level = m
		}
		return !math.IsNaN(p.level)
	}
	if s.Velocity > 10*p.level {
		return true
	}
	p.level = math.NaN()
	return false
}

func TestRecomputation(t *testing.T) {
	sum, checked, symbols := recompute(t, recordedFile(t))
	if sum.polls != 2593 || sum.rejected != 1 || sum.unchanged != 26 {
		t.Errorf("%+v; the series has 2593 polls, one poisoned, 26 unchanged", sum)
	}
	if checked < 2519*symbols {
		t.Errorf("only %d rows of %d tokens were compared", checked, symbols)
	}
}

// The same on a series made by hand, for whoever has no recording.
func TestRecomputationOfHardSeries(t *testing.T) {
	sum, checked, symbols := recompute(t, hardSeries(t))
	if sum.rejected == 0 || sum.unchanged == 0 || checked < 200*symbols {
		t.Errorf("%+v, %d rows of %d tokens compared", sum, checked, symbols)
	}
}

// recompute runs a recording and compares every row with plain arithmetic.
func recompute(t *testing.T, name string) (sum summary, checked, symbols int) {
	t.Helper()
	r, err := recording.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out bytes.Buffer
	if sum, err = writeRows(t.Context(), r, quality.DefaultConfig(), &out); err != nil {
		t.Fatal(err)
	}
	polls := readPlain(t, name)
	checks := recomputed(polls)
	rows := map[time.Time]map[string]row{}
	for sc := bufio.NewScanner(&out); sc.Scan(); {
		if !slices.ContainsFunc(checks, func(s string) bool { return bytes.Contains(sc.Bytes(), []byte(`"symbol":"`+s+`"`)) }) {
			continue
		}
		var x row
		if err := json.Unmarshal(sc.Bytes(), &x); err != nil {
			t.Fatal(err)
		}
		if rows[x.Time] == nil {
			rows[x.Time] = map[string]row{}
		}
		rows[x.Time][x.Symbol] = x
	}
	tokens := map[string]*plainToken{}
	spoiled := map[string]bool{}
	gone := map[string]time.Time{} // since when an accepted poll lacked it
	for _, p := range polls {
		at := p.Time.Truncate(time.Millisecond)
		forget(tokens, gone, p, at, rows[at])
		for _, c := range p.Coins {
			got, ok := rows[at][c.Symbol]
			if !ok || !got.Updated.Equal(at) {
				continue // unchanged or rejected polls bring no samples: the counts above hold them
			}
			if c.Price == nil || c.Cap == nil || c.Volume == nil || *c.Cap <= 0 {
				spoiled[c.Symbol] = true // null rules are the engine's own tests' business
			}
			if spoiled[c.Symbol] {
				continue
			}
			tok := tokens[c.Symbol]
			if tok == nil {
				tok = newPlainToken()
				tokens[c.Symbol] = tok
			}
			tok.take(enginetest.Sample{Time: market.TimeOf(at), Price: *c.Price, Volume: *c.Volume, Velocity: *c.Volume / *c.Cap}, *c.Cap)
			compareRow(t, &got, tok)
			checked++
		}
		if t.Failed() {
			break
		}
	}
	return sum, checked, len(checks)
}

// forget drops tokens that accepted polls have lacked for 24 h: the engine
// retires them, and a token that returns is a new one.
func forget(tokens map[string]*plainToken, gone map[string]time.Time, p plainPoll, at time.Time, rows map[string]row) {
	for symbol, since := range gone {
		if at.Sub(since) >= 24*time.Hour {
			delete(tokens, symbol)
			delete(gone, symbol)
		}
	}
	if !slices.ContainsFunc(p.Coins, func(c plainCoin) bool { r, ok := rows[c.Symbol]; return ok && r.Updated.Equal(at) }) {
		return
	}
	for symbol := range tokens {
		present := slices.ContainsFunc(p.Coins, func(c plainCoin) bool { return c.Symbol == symbol })
		if _, missing := gone[symbol]; present {
			delete(gone, symbol)
		} else if !missing {
			gone[symbol] = at
		}
	}
}

// recomputed returns the symbols whose rows are compared: all of them, and
// every ninth under the race detector, which has nothing to find in plain
// arithmetic.
func recomputed(polls []plainPoll) (symbols []string) {
	every := 1
	if raceDetector {
		every = 9
	}
	for i, c := range polls[0].Coins {
		if i%every == 0 {
			symbols = append(symbols, c.Symbol)
		}
	}
	return symbols
}

func compareRow(t *testing.T, got *row, tok *plainToken) {
	t.Helper()
	bad := func(what string, is, want any) {
		t.Helper()
		if p, ok := is.(*float64); ok && p != nil {
			is = *p
		}
		t.Errorf("%s at %s: %s is %v, recomputed %v", got.Symbol, got.Time, what, is, want)
	}
	if division := *got.Volume / *got.MarketCap; got.Velocity == nil || math.Abs(*got.Velocity-division) > 1e-9 {
		bad("velocity", got.Velocity, division)
	}
	var outliers []string
	for _, f := range outlierNames {
		if slices.Contains(got.Flags, f) {
			outliers = append(outliers, f)
		}
	}
	if !slices.Equal(outliers, tok.flags) {
		bad("flags", outliers, tok.flags)
		return
	}
	near := func(what string, got *float64, want, unit float64) {
		if (got == nil) != math.IsNaN(want) || got != nil && math.Abs(*got-want) > 2*unit*(1+1e-9) {
			bad(what, got, want)
		}
	}
	for period := range market.NumPeriods {
		g, w := got.Trend[period.String()], tok.ref.Trend(period)
		where := period.String()
		if g.Direction != w.Direction.String() {
			bad(where+" direction", g.Direction, w.Direction)
		}
		near(where+" change", g.Change, w.Change, 1e-4)
		near(where+" slope", g.Slope, w.Slope, 1e-9)
		near(where+" coverage", &g.Coverage, w.Coverage, 1e-2)
	}
	for _, period := range []market.Period{market.Period1h, market.Period24h, market.Period7d} {
		want := tok.ref.VWAP(period)
		unit := math.Pow(10, math.Floor(math.Log10(want))-6)
		near("vwap "+period.String(), got.VWAP[period.String()], want, unit)
	}
	near("volatility", got.Volatility, tok.ref.Volatility(), 1e-6)
}

// Two runs over the same recording write the same bytes.
func TestReplayIsDeterministic(t *testing.T) {
	name := recordedFile(t)
	var first []byte
	for range 2 {
		r, err := recording.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := writeRows(t.Context(), r, quality.DefaultConfig(), &out); err != nil {
			t.Fatal(err)
		}
		r.Close()
		if first == nil {
			first = out.Bytes()
		} else if !bytes.Equal(first, out.Bytes()) {
			t.Error("two runs differ")
		}
	}
}
