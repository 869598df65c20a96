package integrity

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/tick"
	"github.com/velocimeter/velocimeter/engine/window"
	"github.com/velocimeter/velocimeter/persist"
	"github.com/velocimeter/velocimeter/persist/record"
)

const (
	// batch is how many tokens are computed again together: the ticks behind the
	// state are read once for them.
	batch = 250
	// tries are how often a batch is begun before it is left to the next pass: a
	// state may be saved while the board waits to be durable.
	tries = 3
	// patience is how long a board may take to be durable.
	patience = 10 * time.Second
	// glance is the time between two looks at what is durable.
	glance = 20 * time.Millisecond
)

// errSkipped says that served values cannot be compared now, which is no difference.
var errSkipped = errors.New("not compared now")

// served computes again what is served of some tokens, other ones in each pass.
func (c *Checker) served(ctx context.Context, rep *Report) error {
	b := c.cfg.Board()
	if b == nil {
		rep.Skipped = "nothing is served yet"
		return nil
	}
	totals(b, rep)
	ids := make([]market.ID, 0, b.Len())
	for s := range b.All {
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	if c.next == 0 && len(ids) > 0 { // a program that is often restarted gets to all of them too
		c.next = ids[rand.IntN(len(ids))]
	}
	for _, s := range stretches(ids, c.next, c.cfg.Tokens) {
		err := c.compare(ctx, s, rep)
		if errors.Is(err, errSkipped) {
			rep.Skipped = err.Error()
			return nil
		}
		if err != nil {
			return err
		}
		c.next = s.next
	}
	return nil
}

// stretches returns the batches of a pass over n of these ids from next on. One over
// all of them begins in front: else the ids that nobody knows between the last and the
// first of a round would be in it twice, or not at all.
func stretches(ids []market.ID, next market.ID, n int) (out []stretch) {
	if n >= len(ids) {
		n, next = len(ids), 0
	}
	for left := n; left > 0; {
		s := stretchOf(ids, next, min(left, batch))
		left, next = left-s.n, s.next
		out = append(out, s)
	}
	return out
}

// stretch is a run of ids.
type stretch struct {
	from, to market.ID // both included
	n        int       // ids in it, of those that were known
	next     market.ID // where the one behind it begins, at least 1
}

// stretchOf returns the n ids from next on, with all ids between that nobody knows;
// behind the last it begins anew.
func stretchOf(ids []market.ID, next market.ID, n int) stretch {
	i, _ := slices.BinarySearch(ids, next)
	s := stretch{from: next}
	if i == len(ids) {
		i, s.from = 0, 0
	}
	end := min(i+n, len(ids))
	s.n = end - i
	if end == len(ids) {
		s.to, s.next = math.MaxUint32, 1
		return s
	}
	s.to, s.next = ids[end]-1, ids[end]
	return s
}

// compare computes a stretch of tokens again, as of the newest board.
func (c *Checker) compare(ctx context.Context, s stretch, rep *Report) (err error) {
	for range tries {
		at, live := c.newest(s)
		if err := c.durable(ctx, at); err != nil {
			return err
		}
		a := &again{rep: rep, seq: at, machine: tick.NewMachine(tick.Config{Epoch: "integrity", Shards: 1, NextSeq: 1, Quality: c.cfg.Quality})}
		err = c.cfg.Store.Retrace(ctx, persist.Retracing{
			From: s.from, To: s.to, Seq: at, Share: c.cfg.Share,
			Engine: a.machine.Engine.Restore, Damaged: a.damaged, Token: a.token, Tick: a.tick,
		})
		switch {
		case err == nil:
			a.compare(live)
			return nil
		case errors.Is(err, persist.ErrCorrupt):
			rep.add(Difference{Kind: KindServed, From: at, To: at, What: fmt.Sprintf("cannot be computed again: %v", err)})
			return nil
		case !errors.Is(err, persist.ErrUntraceable):
			return err
		}
	}
	return fmt.Errorf("%w: %w", errSkipped, err)
}

// newest returns what is served of a stretch of tokens, and of which seq it is. The
// rest of the board need not be kept meanwhile.
func (c *Checker) newest(s stretch) (seq uint64, live map[market.ID]*market.Snapshot) {
	live = map[market.ID]*market.Snapshot{}
	b := c.cfg.Board()
	for t := range b.All {
		if t.ID >= s.from && t.ID <= s.to {
			live[t.ID] = t
		}
	}
	return b.Seq, live
}

// totals adds the market's totals up again.
func totals(b *market.Board, rep *Report) {
	rep.Values += 3
	if sum := tick.Total(b); sum != b.Totals {
		rep.add(Difference{
			Kind: KindTotals, From: b.Seq, To: b.Seq, Served: fmt.Sprintf("%+v", b.Totals), Recomputed: fmt.Sprintf("%+v", sum),
			What: "are not the sums over the tokens",
		})
	}
}

// durable waits until a tick is.
func (c *Checker) durable(ctx context.Context, seq uint64) error {
	ticker := time.NewTicker(glance)
	defer ticker.Stop()
	for end := time.Now().Add(patience); c.cfg.Durable() < seq; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w: history lags behind, durable_seq is %d, not %d", errSkipped, c.cfg.Durable(), seq)
		}
	}
	return nil
}

// again is some tokens, computed again the way a start does.
type again struct {
	rep     *Report
	seq     uint64
	machine *tick.Machine
}

func (a *again) of(kind string, id market.ID, seq uint64) *sink {
	return &sink{rep: a.rep, to: Difference{Kind: kind, Token: id, From: seq, To: seq}}
}

func (a *again) note(id market.ID, what string) {
	a.rep.add(Difference{Kind: KindServed, Token: id, From: a.seq, To: a.seq, What: what})
}

func (a *again) damaged(err error) { a.note(0, fmt.Sprintf("window cells cannot be read: %v", err)) }

func (a *again) token(ts market.TokenState, cells []market.Cell) error {
	if err := a.machine.Restore(ts, cells); err != nil {
		what := "its stored state cannot be used"
		if errors.Is(err, window.ErrCells) {
			what = "its stored window lacks samples"
		}
		a.note(ts.ID, fmt.Sprintf("%s: %v", what, err))
	}
	return nil
}

// tick replays a tick, and compares what it showed with what comes out.
func (a *again) tick(t *market.JournalTick, shown map[market.ID]record.Sample) error {
	a.rep.Ticks++
	if n := a.machine.Replay(t); n > 0 {
		a.rep.add(Difference{Kind: KindTick, From: t.Env.Seq, To: t.Env.Seq, What: fmt.Sprintf("%d of its rows change other fields than it says", n)})
	}
	part := a.machine.Shards[0].Finish()
	for i := range part.Changes {
		ch := &part.Changes[i]
		if stored, ok := shown[ch.Snap.ID]; ok && ch.Quote != nil {
			sample := record.SampleOf(ch)
			a.of(KindTick, ch.Snap.ID, t.Env.Seq).compareSample(&stored, &sample)
		}
	}
	return nil
}

func (a *again) compare(live map[market.ID]*market.Snapshot) {
	a.machine.Resume(a.seq + 1)
	board := a.machine.Engine.Board()
	a.rep.Seq = a.seq
	a.rep.Tokens += uint64(len(live))
	for id, served := range live {
		if t := board.Token(id); t != nil {
			a.of(KindServed, id, a.seq).compareSnapshots(served, t)
		} else {
			a.note(id, "is served, and not in the store")
		}
	}
	for t := range board.All {
		if t != nil && live[t.ID] == nil {
			a.note(t.ID, "is in the store, and not served")
		}
	}
}
