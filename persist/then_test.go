package persist

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// then recomputes from everything that was appended what the market was at an
// instant: from ticks, the newest quote of every token that is not retired.
func (m *model) then(at market.Time) map[market.ID]*market.Change {
	shown := map[market.ID]*market.Change{}
	for _, t := range m.ticks {
		if t.Env.Now > at {
			break
		}
		for _, id := range t.Removed {
			delete(shown, id)
		}
		for c := range t.Changes {
			if c.Quote != nil {
				shown[c.Snap.ID] = c
			}
		}
	}
	return shown
}

// alive lists what the present market would name.
func (w *walk) alive(at market.Time) (alive []market.Alive) {
	for id := range w.mk.tokens {
		alive = append(alive, market.Alive{ID: id})
	}
	for _, t := range w.model.ticks {
		for _, id := range t.Removed {
			if t.Env.Now > at {
				alive = append(alive, market.Alive{ID: id})
			}
		}
	}
	return alive
}

func (w *walk) past(q market.PastQuery) *market.PastMarket {
	w.t.Helper()
	p, err := w.s.Past(context.Background(), q)
	if err != nil {
		w.t.Fatal(err)
	}
	slices.SortFunc(p.Tokens, func(a, b market.PastToken) int { return int(a.Snap.ID) - int(b.Snap.ID) })
	return p
}

// samePast asks for all tokens with and without knowing the present ones, and
// for each alone: all of the same must come.
func (w *walk) samePast(at market.Time) *market.PastMarket {
	w.t.Helper()
	p, q := w.past(market.PastQuery{At: at}), w.past(market.PastQuery{At: at, Alive: w.alive(at)})
	equal := func(a, b market.PastToken) bool {
		return a.Granularity == b.Granularity && a.Snap.ID == b.Snap.ID && a.Snap.Mant == b.Snap.Mant && a.Snap.Exp == b.Snap.Exp
	}
	if p.AsOf != q.AsOf || p.Granularity != q.Granularity || p.Seq != q.Seq || !slices.EqualFunc(p.Tokens, q.Tokens, equal) {
		w.t.Fatalf("at %d: %d tokens (%v as of %d), knowing the present %d (%v as of %d)", at, len(p.Tokens), p.Granularity, p.AsOf, len(q.Tokens), q.Granularity, q.AsOf)
	}
	for _, id := range w.mk.ids {
		one := w.past(market.PastQuery{At: at, ID: id}).Tokens
		i := slices.IndexFunc(p.Tokens, func(x market.PastToken) bool { return x.Snap.ID == id })
		if (i >= 0) != (len(one) == 1) || i >= 0 && !equal(one[0], p.Tokens[i]) {
			w.t.Fatalf("at %d: token %d alone is %v, among all %d", at, id, one, i)
		}
	}
	return p
}

func TestPastTicks(t *testing.T) {
	seeds := uint64(3)
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		w := newWalk(t, seed, testOptions(vfs.NewMem()), 20)
		var times []market.Time
		for range 110 {
			w.append(market.Minute / 2)
			times = append(times, w.mk.now)
			if w.rng.IntN(4) == 0 {
				w.commit()
			}
		}
		w.commit()
		for i, at := range times {
			for _, at := range []market.Time{at, at + 1 + market.Time(w.rng.Int64N(29_000))} {
				if at > times[len(times)-1] || w.rng.IntN(4) > 0 {
					continue
				}
				p := w.samePast(at)
				want := w.model.then(at)
				if p.Granularity != market.GranularityRaw || p.AsOf != times[i] || p.Seq != w.model.ticks[i].Env.Seq || len(p.Tokens) != len(want) {
					t.Fatalf("seed %d at %d: %v as of %d, seq %d, %d tokens; want %d, %d, %d", seed, at, p.Granularity, p.AsOf, p.Seq, len(p.Tokens), times[i], w.model.ticks[i].Env.Seq, len(want))
				}
				for _, tok := range p.Tokens {
					c := want[tok.Snap.ID]
					if c == nil || tok.Granularity != market.GranularityRaw || record.SampleOf(&market.Change{Snap: tok.Snap}).Price != c.Snap.Value(market.FieldPrice) {
						t.Fatalf("seed %d at %d: token %d of %v", seed, at, tok.Snap.ID, tok.Granularity)
					}
					for _, f := range []market.Field{market.FieldMarketCap, market.FieldVolume24h, market.FieldVelocity} {
						if tok.Snap.Value(f) != c.Snap.Value(f) {
							t.Fatalf("seed %d at %d: token %d has %v of field %d, want %v", seed, at, tok.Snap.ID, tok.Snap.Value(f), f, c.Snap.Value(f))
						}
					}
				}
			}
		}
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Where ticks are gone, every answer is the newest point of /history that had
// ended by then, of the finest granularity that is kept.
func TestPastRows(t *testing.T) {
	const day = market.Time(market.Day)
	o := testOptions(vfs.NewMem())
	o.Retention = Retention{Ticks: market.Hour, Minute: market.Day, Five: 3 * market.Day, Hour: 6 * market.Day}
	w := newWalk(t, 5, o, 12)
	w.mk.now, w.mk.share = 20_000*day+7, 0.5
	start := w.mk.now
	for w.mk.now < start+10*day {
		by := market.Millis(w.rng.IntN(12)) * market.Minute
		if w.rng.IntN(150) == 0 {
			by = 14 * market.Hour // nothing was heard
		}
		w.append(by + market.Minute/3)
		if w.rng.IntN(6) == 0 {
			w.commit()
		}
	}
	w.commit()
	defer func() { _ = w.s.Close() }()
	now, seen := w.mk.now, map[market.Granularity]int{}
	instants := 200
	if testing.Short() {
		instants = 60
	}
	for range instants {
		at := start + market.Time(w.rng.Int64N(int64(now-start)))
		if w.rng.IntN(8) == 0 {
			at = record.Floor(at, market.Hour)
		}
		if w.rng.IntN(3) == 0 {
			at = now - market.Time(w.rng.Int64N(int64(2*market.Hour)))
		}
		p := w.samePast(at)
		if at < p.Oldest {
			continue
		}
		for _, tok := range p.Tokens {
			seen[tok.Granularity]++
			w.checkPast(at, tok)
		}
		w.checkAbsent(at, p)
	}
	for _, g := range []market.Granularity{market.GranularityRaw, market.Granularity1m, market.Granularity5m, market.Granularity1h, market.Granularity1d} {
		if seen[g] < 10 {
			t.Errorf("only %d tokens of %v: %v", seen[g], g, seen)
		}
	}
}

// checkPast holds a token against its history.
func (w *walk) checkPast(at market.Time, tok market.PastToken) {
	w.t.Helper()
	id, g := tok.Snap.ID, tok.Granularity
	q := market.HistoryQuery{ID: id, From: at.Add(-3 * market.Day), To: at + 1, Granularity: g, Limit: 100_000}
	h, err := w.s.History(context.Background(), q)
	if err != nil {
		w.t.Fatal(err)
	}
	points := h.Points
	for len(points) > 0 && points[len(points)-1].Time.Add(g.Width()) > at {
		points = points[:len(points)-1]
	}
	if len(points) == 0 {
		w.t.Fatalf("at %d: token %d has a value of %v, its history none", at, id, g)
	}
	last := &points[len(points)-1]
	end := last.Time.Add(g.Width())
	if end <= at.Add(-market.PastLookBack) {
		w.t.Fatalf("at %d: token %d of %v is of %d", at, id, g, end)
	}
	s := tok.Snap
	got := [...]market.Decimal{s.Value(market.FieldPrice), s.Value(market.FieldMarketCap), s.Value(market.FieldVolume24h), s.Value(market.FieldVelocity)}
	want := [...]market.Decimal{last.Price.Close, last.Cap.Close, last.Volume.Close, last.Velocity.Close}
	if got != want || g != market.GranularityRaw && (s.Flags() != last.Flags || s.SourceTime() != end) {
		w.t.Fatalf("at %d: token %d of %v shows %v, %v at %d; want %v, %v at %d", at, id, g, got, s.Flags(), s.SourceTime(), want, last.Flags, end)
	}
}

// checkAbsent makes sure that a token is not left out that had a value.
func (w *walk) checkAbsent(at market.Time, p *market.PastMarket) {
	w.t.Helper()
	g := p.Granularity
	for _, id := range w.mk.ids {
		if slices.ContainsFunc(p.Tokens, func(t market.PastToken) bool { return t.Snap.ID == id }) {
			continue
		}
		q := market.HistoryQuery{ID: id, From: at.Add(-market.PastLookBack + 1 - g.Width()), To: at + 1, Granularity: g, Limit: 100_000}
		h, err := w.s.History(context.Background(), q)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, point := range h.Points {
			end := point.Time.Add(g.Width())
			gone := slices.ContainsFunc(w.model.ticks, func(t *market.Tick) bool {
				return t.Env.Now >= point.Time && t.Env.Now <= at && slices.Contains(t.Removed, id)
			})
			if end <= at && end > at.Add(-market.PastLookBack) && !gone {
				w.t.Fatalf("at %d: token %d is absent, it had %v at %d", at, id, g, point.Time)
			}
		}
	}
}

func TestPastEnds(t *testing.T) {
	o := testOptions(vfs.NewMem())
	w := newWalk(t, 1, o, 5)
	p := w.past(market.PastQuery{At: 1})
	if p.Durable != 0 || p.Tokens != nil {
		t.Fatalf("an empty store: %+v", p)
	}
	w.append(market.Minute)
	first := w.mk.now
	w.commit()
	w.append(market.Minute)
	for _, at := range []market.Time{0, first - 1, first + 1, w.mk.now} {
		if p := w.past(market.PastQuery{At: at}); p.Oldest != first || p.Durable != first || p.Tokens != nil || p.AsOf != 0 {
			t.Fatalf("at %d: %+v, want only %d", at, p, first)
		}
	}
	if p := w.past(market.PastQuery{At: first}); p.AsOf != first || len(p.Tokens) == 0 {
		t.Fatalf("at the first tick: %+v", p)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := w.s.Past(ctx, market.PastQuery{At: first}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.s.Past(context.Background(), market.PastQuery{At: first}); !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v", err)
	}
}

// A value that does not check out makes an error, never a market that lacks tokens.
func TestPastDamaged(t *testing.T) {
	w := newWalk(t, 5, testOptions(vfs.NewMem()), 3)
	defer func() { _ = w.s.Close() }()
	w.mk.dirty, w.mk.share = false, 1
	for range 100 {
		w.append(market.Minute)
	}
	w.commit()
	f := func(at market.Time, keep market.Millis, key []byte) {
		t.Helper()
		w.s.opts.Retention.Ticks = keep
		if p := w.past(market.PastQuery{At: at}); len(p.Tokens) != 3 {
			t.Fatalf("%d tokens before the damage", len(p.Tokens))
		}
		spoil(t, w.s, key)
		for _, id := range []market.ID{0, w.mk.ids[1]} {
			if p, err := w.s.Past(t.Context(), market.PastQuery{At: at, ID: id}); !errors.Is(err, ErrCorrupt) {
				t.Errorf("with damage of %x: %+v, %v", key, p, err)
			}
		}
	}
	at := w.model.ticks[10].Env.Now
	day, part := dayOf(at), byte(hourOfDay(at))
	f(at, 1, record.ChunkKey(record.KindHour, day, w.mk.ids[1], part))
	f(at, market.Day, record.JournalKey(w.model.ticks[10].Env.Seq))
	at = w.model.ticks[97].Env.Now
	f(at, 1, record.BlockKey(record.Floor(at, market.Minute).Add(-market.Minute), record.Group(w.mk.ids[1])))
}

// Readers of the past see whole markets of durable ticks while others are written.
func TestPastBesideWriter(t *testing.T) {
	w := newWalk(t, 9, testOptions(vfs.NewMem()), 20)
	defer func() { _ = w.s.Close() }()
	w.mk.dirty, w.mk.share = false, 1
	first := w.mk.now.Add(market.Minute)
	stop, done := make(chan struct{}), make(chan error, 2)
	for range cap(done) {
		go func() {
			for at := first; ; {
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
				p, err := w.s.Past(context.Background(), market.PastQuery{At: at})
				if err == nil && at <= p.Durable && (len(p.Tokens) != 20 || p.AsOf != at) {
					err = fmt.Errorf("%d tokens as of %d at %d", len(p.Tokens), p.AsOf, at)
				}
				if err != nil {
					done <- err
					return
				}
				if at = p.Durable; at == 0 {
					at = first
				}
			}
		}()
	}
	for range 100 {
		w.append(market.Minute)
		w.commit()
	}
	close(stop)
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
