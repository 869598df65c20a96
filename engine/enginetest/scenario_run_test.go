package enginetest_test

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/enginetest"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/engine/tick"
)

// scenario is an engine under the commands of one file.
type scenario struct {
	t       *testing.T
	file    string
	line    int
	trace   strings.Builder
	m       *tick.Machine
	now     market.Time
	cadence market.Millis
	fields  []market.Field
	infos   map[string]*market.Info
	hours   map[market.ID][]market.HourCells
}

func newScenario(t *testing.T, file string) *scenario {
	return &scenario{
		t: t, file: file, m: newMachine(), now: enginetest.DirtStart, cadence: market.Minute,
		fields: []market.Field{market.FieldVelocity, market.FieldVelocityMethod, market.FieldVelocityReason, market.FieldFlags, market.FieldFreshness},
		infos:  map[string]*market.Info{}, hours: map[market.ID][]market.HourCells{},
	}
}

func newMachine() *tick.Machine {
	return tick.NewMachine(tick.Config{Epoch: "test", Shards: 2, NextSeq: 1})
}

func (s *scenario) fail(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("%s:%d: %s", s.file, s.line, fmt.Sprintf(format, args...))
}

// commands runs the lines of a step.
func (s *scenario) commands(text string) {
	s.t.Helper()
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		words := strings.Fields(lines[i])
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		rows := 0
		for i+1+rows < len(lines) && strings.HasPrefix(lines[i+1+rows], " ") {
			rows++
		}
		s.command(words[0], words[1:], lines[i+1:i+1+rows])
		i += rows
		s.line += rows + 1
	}
}

func (s *scenario) command(name string, args, rows []string) {
	s.t.Helper()
	switch name {
	case "trace":
		s.fields = s.parseFields(args)
	case "cadence":
		s.cadence = s.duration(args[0])
	case "poll":
		n := 1
		if len(args) > 1 {
			n, _ = strconv.Atoi(strings.TrimPrefix(args[1], "n="))
		}
		for i := range n {
			s.poll(s.duration(args[0]), rows, i)
		}
	case "clock":
		s.now = s.now.Add(s.duration(args[0]))
		s.m.Advance(s.now, s.emit)
	case "restart":
		s.restart()
	case "show":
		s.show(s.token(args[0]), s.parseFields(args[1:]), market.AllFields)
	case "explain":
		s.explain(s.token(args[0]))
	default:
		s.fail("unknown command %q", name)
	}
}

func (s *scenario) parseFields(names []string) (fields []market.Field) {
	s.t.Helper()
	for _, name := range names {
		f, ok := market.ParseField(name)
		if !ok {
			s.fail("unknown field %q", name)
		}
		fields = append(fields, f)
	}
	return fields
}

func (s *scenario) duration(text string) market.Millis {
	s.t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		s.fail("%v", err)
	}
	return market.Millis(d.Milliseconds())
}

func (s *scenario) token(id string) *market.Snapshot {
	s.t.Helper()
	n, _ := strconv.Atoi(id)
	snap := s.m.Engine.Board().Token(market.ID(n))
	if snap == nil {
		s.fail("no token %q", id)
	}
	return snap
}

func (s *scenario) poll(after market.Millis, rows []string, i int) {
	s.t.Helper()
	s.now = s.now.Add(after)
	b := &market.Batch{Source: market.SourceCoinMarketCap, ReceivedAt: s.now, Cadence: s.cadence}
	for _, row := range rows {
		s.row(b, strings.Fields(row), i)
	}
	s.m.Poll(b, s.now, s.emit)
}

// row adds the quotes of one row to the batch.
func (s *scenario) row(b *market.Batch, words []string, i int) {
	s.t.Helper()
	first, last, ranged := strings.Cut(words[0], "-")
	if !ranged {
		last = first
	}
	from, err1 := strconv.Atoi(first)
	to, err2 := strconv.Atoi(last)
	if err1 != nil || err2 != nil {
		s.fail("not an id or a range of ids: %q", words[0])
	}
	for id := from; id <= to; id++ {
		q := market.Quote{
			ID: market.ID(id), SourceTime: s.now, Info: s.info(fmt.Sprintf("T%d", id)),
			Price: market.Null, MarketCap: market.Null, Volume24h: market.Null, PercentChange1h: market.Null,
			PercentChange24h: market.Null, PercentChange7d: market.Null, CirculatingSupply: market.Null,
			TotalSupply: market.Null, MaxSupply: market.Null, FullyDiluted: market.Null, Dominance: market.Null,
			SelfReportedCap: market.Null, SelfReportedSupply: market.Null,
		}
		for _, word := range words[1:] {
			name, value, _ := strings.Cut(word, "=")
			s.member(&q, name, value, i)
		}
		b.Quotes = append(b.Quotes, q)
	}
}

func (s *scenario) info(symbol string) *market.Info {
	if s.infos[symbol] == nil {
		s.infos[symbol] = &market.Info{Symbol: symbol}
	}
	return s.infos[symbol]
}

func (s *scenario) member(q *market.Quote, name, value string, i int) {
	s.t.Helper()
	members := map[string]struct {
		f market.Field
		d *market.Decimal
	}{
		"price": {market.FieldPrice, &q.Price}, "cap": {market.FieldMarketCap, &q.MarketCap},
		"volume": {market.FieldVolume24h, &q.Volume24h}, "supply": {market.FieldCirculatingSupply, &q.CirculatingSupply},
		"total": {market.FieldTotalSupply, &q.TotalSupply}, "max": {market.FieldMaxSupply, &q.MaxSupply},
		"fdv": {market.FieldFullyDilutedMarketCap, &q.FullyDiluted}, "dominance": {market.FieldDominance, &q.Dominance},
		"p1h": {market.FieldPercentChange1h, &q.PercentChange1h}, "p24h": {market.FieldPercentChange24h, &q.PercentChange24h},
		"p7d": {market.FieldPercentChange7d, &q.PercentChange7d},
	}
	switch m, ok := members[name]; {
	case ok:
		q.Has |= m.f.Bit()
		*m.d = s.value(value, i, q.ID)
	case name == "selfcap":
		q.SelfReportedCap = s.value(value, i, q.ID)
	case name == "rank":
		q.Has |= market.FieldRank.Bit()
		q.Rank = uint32(s.value(value, i, q.ID).Float())
	case name == "symbol":
		q.Info = s.info(value)
	case name == "time":
		q.SourceTime = s.now.Add(s.duration(value))
	case name == "flags":
		q.Flags |= 1 << slices.Index(market.FlagNames(), value)
	default:
		s.fail("unknown member %q", name)
	}
}

// value reads "null" or a number with its "+…i" and "*id".
func (s *scenario) value(text string, i int, id market.ID) market.Decimal {
	s.t.Helper()
	if text == "null" {
		return market.Null
	}
	text, perID := strings.CutSuffix(text, "*id")
	base, slope, grows := strings.Cut(strings.TrimSuffix(text, "i"), "+")
	d, _, err := market.ParseDecimal([]byte(base))
	if err != nil {
		s.fail("%q: %v", text, err)
	}
	f := d.Float()
	if grows {
		k, err := strconv.ParseFloat(slope, 64)
		if err != nil {
			s.fail("%q: %v", text, err)
		}
		f += k * float64(i)
	}
	if perID {
		f *= float64(id)
	}
	if !grows && !perID {
		return d
	}
	return market.Significant(f, 15)
}

// emit traces a tick: nothing for one that changed no traced field.
func (s *scenario) emit(t *market.Tick) {
	if t.Kind == market.TickPoll && t.Verdict != market.Accepted {
		fmt.Fprintf(&s.trace, "%d %s\n", t.Env.Seq, t.Verdict)
	}
	removed := slices.Sorted(slices.Values(t.Removed))
	for _, id := range removed {
		fmt.Fprintf(&s.trace, "%d token %d: removed\n", t.Env.Seq, id)
	}
	var changes []*market.Change
	t.Changes(func(c *market.Change) bool {
		changes = append(changes, c)
		return true
	})
	slices.SortFunc(changes, func(a, b *market.Change) int { return int(int64(a.Snap.ID) - int64(b.Snap.ID)) })
	for _, c := range changes {
		s.show(c.Snap, s.fields, c.Mask)
	}
}

// show traces the given fields of a token that are in mask.
func (s *scenario) show(snap *market.Snapshot, fields []market.Field, mask market.Mask) {
	var parts []string
	for _, f := range fields {
		if mask.Has(f) {
			parts = append(parts, fmt.Sprintf("%s=%s", f, valueText(snap, f)))
		}
	}
	if len(parts) > 0 {
		fmt.Fprintf(&s.trace, "%d token %d: %s\n", snap.Seq, snap.ID, strings.Join(parts, " "))
	}
}

// valueText returns a field of a snapshot as people read it.
func valueText(s *market.Snapshot, f market.Field) string {
	switch f.Spec().Kind {
	case market.KindText:
		return strconv.Quote([...]string{s.Info.Symbol, s.Info.Name, s.Info.Slug}[f-market.FieldSymbol])
	case market.KindEnum:
		return strconv.Quote(market.EnumNames(f)[s.Int(f)])
	case market.KindFlags:
		var names []string
		for i, name := range market.FlagNames() {
			if s.Flags()>>i&1 != 0 {
				names = append(names, name)
			}
		}
		return "[" + strings.Join(names, " ") + "]"
	case market.KindTime:
		return market.Time(s.Int(f)).Std().Format("15:04:05.000")
	default:
		return s.Value(f).String()
	}
}

func (s *scenario) explain(snap *market.Snapshot) {
	if snap.Review == nil {
		fmt.Fprintf(&s.trace, "token %d: nothing rejected\n", snap.ID)
		return
	}
	fmt.Fprintf(&s.trace, "token %d: level reference %s, step limits", snap.ID, short(snap.Review.LevelReference))
	for i, name := range [quality.NumInputs]string{"price", "cap", "volume"} {
		fmt.Fprintf(&s.trace, " %s %s", name, short(snap.Review.StepLimit[i]))
	}
	s.trace.WriteByte('\n')
	for _, r := range snap.Review.Rejected {
		fmt.Fprintf(&s.trace, "  %s %s %s: %s\n", r.Time.Std().Format("15:04:05.000"), r.Field, r.Rule, r.Value)
	}
}

func short(f float64) string {
	if math.IsNaN(f) {
		return "off"
	}
	return strconv.FormatFloat(f, 'g', 4, 64)
}

// restart stores the engine, reads it back into a new one and goes on with that.
func (s *scenario) restart() {
	s.t.Helper()
	e := s.m.Export()
	for _, h := range e.Hours {
		s.hours[h.ID] = append(slices.DeleteFunc(s.hours[h.ID], func(o market.HourCells) bool { return o.Hour == h.Hour }), h)
	}
	next := newMachine()
	if err := next.Engine.Restore(e.Engine); err != nil {
		s.fail("%v", err)
	}
	for _, ts := range e.Tokens {
		var cells []market.Cell
		for _, h := range s.hours[ts.ID] {
			cells = append(cells, h.Cells...)
		}
		if err := next.Restore(ts, cells); err != nil {
			s.fail("%v", err)
		}
	}
	next.Resume(e.Seq + 1)
	s.m = next
}
