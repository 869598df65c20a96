package main

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/engine/tick"
	"github.com/velocimeter/velocimeter/persist"
)

func testLogger(b *lockedBuffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// A process that dies right after any tick became durable comes back exactly
// there, whatever the tick was: a poll, one that was rejected or said nothing
// new, the passing of time, a retirement.
func TestRestoreAfterEveryKindOfTick(t *testing.T) {
	u := runHard(t, hardSeries(t))
	moments := map[uint64]bool{u.last(): true}
	few := 6
	if raceDetector {
		few = 2
	}
	kinds := map[[3]bool]int{}
	verdicts := map[market.Verdict]int{}
	for seq, tk := range u.ticks[1:] {
		kind := [3]bool{tk.Kind == market.TickClock, tk.Verdict != market.Accepted, len(tk.Removed) > 0}
		kinds[kind]++
		verdicts[tk.Verdict]++
		if kinds[kind] < few || (seq+1)%61 == 0 {
			moments[uint64(seq+1)] = true
		}
	}
	if len(kinds) < 4 || verdicts[market.Unchanged] < 5 || verdicts[market.Poisoned] < 4 {
		t.Fatalf("the recording is not hard enough: %v, %v", kinds, verdicts)
	}
	data := filepath.Join(t.TempDir(), "data")
	store, err := persist.Open(persist.Options{Dir: data, Lineage: "hard"})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Reserve(5000); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	u.run(func(tk *market.Tick, m *tick.Machine) {
		if err := store.Append(tk); err != nil {
			t.Fatal(err)
		}
		if rng.IntN(40) == 0 {
			if err := store.Save(m.Export()); err != nil {
				t.Fatal(err)
			}
		}
		if !moments[tk.Env.Seq] {
			return
		}
		if _, err := store.Commit(); err != nil {
			t.Fatal(err)
		}
		r := reopen(t, copyStore(t, data), "hard")
		if r.rec.DurableSeq != tk.Env.Seq || r.rec.NextSeq <= 5000 {
			t.Fatalf("durable seq %d, next %d after tick %d", r.rec.DurableSeq, r.rec.NextSeq, tk.Env.Seq)
		}
		t.Run(fmt.Sprint(tk.Env.Seq), func(t *testing.T) { compareRestored(t, u, r, &count{}) })
	})
}

// Life after life: each goes on for a while from what the one before left, saves
// its state or does not, and ends in order or not.
func TestRestoreAgainAndAgain(t *testing.T) {
	u := runHard(t, hardSeries(t))
	seeds := uint64(4)
	if raceDetector {
		seeds = 1
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 5))
		data := filepath.Join(t.TempDir(), "data")
		var c count
		for at := uint64(0); at < u.last() && !t.Failed(); {
			data = live(t, u, rng, data)
			found := reopen(t, copyStore(t, data), "hard")
			compareRestored(t, u, found, &c)
			c.skip(found.rec.DurableSeq, found.rec.NextSeq)
			at = c.of(found.rec.DurableSeq)
		}
		if t.Failed() {
			t.Fatalf("seed %d, lives %+v", seed, c.parts)
		}
	}
}

// live is one life on a data folder; it returns the folder that it leaves.
func live(t *testing.T, u *uninterrupted, rng *rand.Rand, data string) string {
	t.Helper()
	store, err := persist.Open(persist.Options{Dir: data, Lineage: "hard"})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	rec := store.Recovery()
	m, _, err := restoreMachine(store, 1+rng.IntN(6), quality.DefaultConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(store.Reserve(rec.NextSeq + 2000))
	rest := u.polls[rec.Position:]
	for _, b := range rest[:min(len(rest), 1+rng.IntN(120))] {
		m.Poll(b, b.ReceivedAt, func(tk *market.Tick) {
			must(store.Append(tk))
			if rng.IntN(4) == 0 {
				_, err := store.Commit()
				must(err)
			}
		})
		if rng.IntN(50) == 0 {
			must(store.Save(m.Export()))
		}
	}
	if rng.IntN(3) > 0 {
		return copyStore(t, data) // killed: what was not handed to the system is lost
	}
	must(store.Save(m.Export()))
	must(store.Close())
	return data
}

// A recording that was replayed to its end stays there; --loop goes on after it,
// --from-start begins anew and keeps what was.
func TestReplayRestarted(t *testing.T) {
	name := hardSeries(t)
	u := runHard(t, name)
	data := filepath.Join(t.TempDir(), "data")
	run := func(until func(seq uint64, log string) bool, flags ...string) meta {
		t.Helper()
		s := startServer(t, data, append([]string{"--replay", name, "--speed", "max", "--sync-window", "0s"}, flags...)...)
		s.until("/api/v1/tokens", func(code int, body string) bool {
			return code == http.StatusOK && until(decode(t, body).Meta.Seq, s.errs.String())
		})
		_, body := s.get("/api/v1/tokens") // the answer above may be older than the log
		m := decode(t, body)
		if o := s.stop(); o.code != exitOK {
			t.Fatalf("exit %d: %s", o.code, o.stderr)
		}
		return m
	}
	ended := func(_ uint64, log string) bool { return strings.Contains(log, "the replay has ended") }
	first := run(ended)
	if first.Meta.Seq != u.last() {
		t.Errorf("the recording ended at seq %d, want %d", first.Meta.Seq, u.last())
	}
	if again := run(ended); again.Meta.Seq != first.Meta.Seq || again.Meta.Epoch != first.Meta.Epoch {
		t.Errorf("restarted at its end: %+v, was %+v", again.Meta, first.Meta)
	}
	looped := run(func(seq uint64, _ string) bool { return seq > first.Meta.Seq+50 }, "--loop")
	if looped.Meta.Epoch != first.Meta.Epoch {
		t.Errorf("the loop is of epoch %s, not %s", looped.Meta.Epoch, first.Meta.Epoch)
	}
	if again := run(ended); again.Meta.Seq < looped.Meta.Seq || again.Meta.Epoch != first.Meta.Epoch {
		t.Errorf("after the loop: %+v, was %+v", again.Meta, looped.Meta)
	}
	fresh := run(ended, "--from-start")
	if fresh.Meta.Epoch == first.Meta.Epoch || fresh.Meta.Seq != u.last() {
		t.Errorf("from the start: %+v, was %+v", fresh.Meta, first.Meta)
	}
	aside, err := filepath.Glob(filepath.Join(data, "replay-*."+first.Meta.Epoch+".old"))
	if err != nil || len(aside) != 1 {
		t.Errorf("the old lineage is not kept: %v, %v", aside, err)
	}
}
