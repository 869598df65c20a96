package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/integrity"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/engine/tick"
	"github.com/velocimeter/velocimeter/persist"
	"github.com/velocimeter/velocimeter/transport/admin"
)

// selfCheck is a store and a board that a checker holds against each other.
type selfCheck struct {
	t       *testing.T
	store   *persist.Store
	checker *integrity.Checker
	board   *market.Board
	log     lockedBuffer
}

func newSelfCheck(t *testing.T, data string) *selfCheck {
	t.Helper()
	s := &selfCheck{t: t}
	var err error
	if s.store, err = persist.Open(persist.Options{Dir: data, Lineage: "hard"}); err != nil {
		t.Fatal(err)
	}
	s.checker = integrity.New(integrity.Config{
		Store: s.store, Engine: func(blob []byte) error {
			return tick.NewMachine(tick.Config{Epoch: "x", Shards: 1, NextSeq: 1}).Engine.Restore(blob)
		},
		Board: func() *market.Board { return s.board }, Durable: func() uint64 { return s.board.Seq },
		Quality: quality.DefaultConfig(), Log: slog.New(slog.NewTextHandler(&s.log, nil)), Tokens: 1 << 20, Share: 1,
	})
	s.checker.Start()
	return s
}

func (s *selfCheck) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// pass runs a pass against a board, all of which is durable.
func (s *selfCheck) pass(b *market.Board) *integrity.Report {
	s.t.Helper()
	_, err := s.store.Commit()
	s.must(err)
	before := s.checker.Passes.Load()
	s.board = b
	s.must(s.checker.Begin())
	ticker := time.NewTicker(100 * time.Microsecond)
	defer ticker.Stop()
	for range 200_000 {
		if r, running := s.checker.Last(); !running {
			if s.checker.Passes.Load() != before+1 {
				break
			}
			return r
		}
		<-ticker.C
	}
	s.t.Fatalf("the pass did not end; log:\n%s", s.log.String())
	return nil
}

func (s *selfCheck) end() {
	s.t.Helper()
	s.must(s.checker.Stop(s.t.Context()))
	s.must(s.store.Close())
}

// What is served is what store and journal give, at any moment of a hard recording
// and in every life of a store.
func TestIntegrityOfHardSeries(t *testing.T) {
	u := runHard(t, hardSeries(t))
	rng := rand.New(rand.NewPCG(3, 4))
	often := 12
	if raceDetector {
		often = 60
	}
	data := filepath.Join(t.TempDir(), "data")
	compared, passes, ticks, lives := uint64(0), 0, uint64(0), 0
	for position := uint64(0); position < uint64(len(u.polls)) && !t.Failed(); lives++ {
		s := newSelfCheck(t, data)
		m, _, err := restoreMachine(s.store, 1+rng.IntN(6), quality.DefaultConfig(), slog.New(slog.DiscardHandler))
		s.must(err)
		s.must(s.store.Reserve(s.store.Recovery().NextSeq + 4000))
		saved := false
		rest := u.polls[s.store.Recovery().Position:]
		for _, b := range rest[:min(len(rest), 1+rng.IntN(100))] {
			position = b.Position
			m.Poll(b, b.ReceivedAt, func(tk *market.Tick) {
				s.must(s.store.Append(tk))
				if rng.IntN(often) > 0 || t.Failed() {
					return
				}
				r := s.pass(tk.Board)
				if !r.OK() || saved != (r.Seq == tk.Env.Seq) || saved && r.Tokens != uint64(tk.Board.Len()) || saved == (r.Skipped != "") {
					t.Errorf("life %d, tick %d: %+v", lives, tk.Env.Seq, r)
				}
				compared, passes, ticks = compared+r.Tokens, passes+1, ticks+r.Ticks
			})
			if rng.IntN(50) == 0 {
				s.must(s.store.Save(m.Export()))
				saved = true
			}
		}
		if rng.IntN(2) == 0 {
			s.must(s.store.Save(m.Export()))
		}
		s.end()
	}
	t.Logf("%d lives, %d passes, %d tokens compared, %d ticks replayed", lives, passes, compared, ticks)
	if compared == 0 || ticks == 0 {
		t.Error("nothing was compared")
	}
}

// One pass at a time, by the clock or when asked; a stop ends it.
func TestIntegrityPasses(t *testing.T) {
	s := newSelfCheck(t, filepath.Join(t.TempDir(), "data"))
	defer s.end()
	s.must(s.checker.Stop(t.Context()))
	if err := s.checker.Begin(); !errors.Is(err, integrity.ErrStopped) {
		t.Errorf("after a stop: %v", err)
	}
	in, out := make(chan struct{}), make(chan struct{})
	cfg := integrity.Config{Store: s.store, Every: time.Millisecond, Log: slog.New(slog.DiscardHandler), Board: func() *market.Board {
		in <- struct{}{}
		<-out
		return nil
	}}
	if err := integrity.New(cfg).Stop(t.Context()); err != nil {
		t.Errorf("never started: %v", err)
	}
	c := integrity.New(cfg)
	c.Start()
	for range 3 { // by the clock
		<-in
		if err := c.Begin(); !errors.Is(err, integrity.ErrRunning) {
			t.Errorf("while one runs: %v", err)
		}
		out <- struct{}{}
	}
	<-in
	c.Cancel()
	out <- struct{}{}
	s.must(c.Stop(t.Context()))
	if last, running := c.Last(); running || last == nil || last.Skipped == "" || c.Passes.Load() != 3 {
		t.Errorf("%d passes, the last %+v", c.Passes.Load(), last)
	}
}

// What goes wrong inside a pass costs the pass.
func TestIntegrityPanics(t *testing.T) {
	s := newSelfCheck(t, filepath.Join(t.TempDir(), "data"))
	defer s.end()
	calls := 0
	c := integrity.New(integrity.Config{Store: s.store, Every: time.Millisecond, Log: slog.New(slog.NewTextHandler(&s.log, nil)), Board: func() *market.Board {
		if calls++; calls == 1 {
			panic("no board")
		}
		return nil
	}})
	c.Start()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for n := 0; n < 5000 && c.Passes.Load() == 0; n++ {
		<-ticker.C
	}
	s.must(c.Stop(t.Context()))
	if c.Failures.Load() != 1 || c.Passes.Load() == 0 || !strings.Contains(s.log.String(), "no board") {
		t.Errorf("%d failures, %d passes; log:\n%s", c.Failures.Load(), c.Passes.Load(), s.log.String())
	}
}

// altered returns a board of which some token is another.
func altered(b *market.Board, id market.ID, change func(*market.Snapshot) *market.Snapshot) *market.Board {
	out := *b
	out.Shards = make([][]*market.Snapshot, len(b.Shards))
	for i, shard := range b.Shards {
		for _, s := range shard {
			if s.ID == id {
				c := *s
				s = change(&c)
			}
			if s != nil {
				out.Shards[i] = append(out.Shards[i], s)
			}
		}
	}
	return &out
}

// A value that is not what store and journal give is found, and told with what it is
// and what it should be.
func TestIntegrityFindsDifferences(t *testing.T) {
	u := runHard(t, hardSeries(t))
	s := newSelfCheck(t, filepath.Join(t.TempDir(), "data"))
	defer s.end()
	s.must(s.store.Reserve(u.last()))
	var id market.ID
	wrong := u.last() - 3
	for at := u.last(); at > wrong-20 && id == 0; at-- {
		for c := range u.ticks[at].Changes {
			if c.Quote != nil && !c.Snap.Value(market.FieldVelocity).IsNull() {
				wrong, id = at, c.Snap.ID
			}
		}
	}
	m := tick.NewMachine(tick.Config{Epoch: "x", Shards: 3, NextSeq: 1, Quality: quality.DefaultConfig()})
	var board *market.Board
	for _, b := range u.polls {
		m.Poll(b, b.ReceivedAt, func(tk *market.Tick) {
			board = tk.Board
			if tk.Env.Seq == wrong { // what the store is told is not what was published
				spoiled := *tk
				spoiled.Parts = [][]market.Change{nil}
				for c := range tk.Changes {
					c := *c
					if c.Snap.ID == id {
						snap := *c.Snap
						snap.Put(market.FieldVelocity, market.NewDecimal(12345, -3))
						snap.Put(market.FieldMarketCap, market.Null) // else it is not volume / cap
						c.Snap = &snap
					}
					spoiled.Parts[0] = append(spoiled.Parts[0], c)
				}
				tk = &spoiled
			}
			s.must(s.store.Append(tk))
			if tk.Env.Seq == wrong-5 {
				s.must(s.store.Save(m.Export()))
			}
		})
	}
	r := s.pass(board)
	if r.Count != 2 || r.ByKind[integrity.KindTick] != 2 || r.Differences[1].Field != "velocity" || r.Differences[1].Served != "12.345" ||
		r.Differences[1].Token != id || r.Differences[1].From != wrong {
		t.Errorf("a spoiled tick: %+v", r)
	}
	s.must(s.store.Save(m.Export()))
	if r := s.pass(board); !r.OK() || r.Tokens != uint64(board.Len()) {
		t.Fatalf("behind the state: %+v", r)
	}
	cut := func(text, want string) string { // what is not asked for
		if want == "" {
			return ""
		}
		return text
	}
	f := func(what string, b *market.Board, count uint64, want integrity.Difference) {
		t.Helper()
		r := s.pass(b)
		found := slices.ContainsFunc(r.Differences, func(d integrity.Difference) bool {
			d.Served, d.Recomputed, d.What = cut(d.Served, want.Served), cut(d.Recomputed, want.Recomputed), cut(d.What, want.What)
			return d == want
		})
		if r.Count != count || !found {
			t.Errorf("%s: %d differences %+v, want %d, %+v", what, r.Count, r.Differences, count, want)
		}
	}
	given, at := "is not what store and journal give", board.Seq
	is := board.Token(id)
	for field := market.Field(1); field <= market.NumNumeric; field++ {
		f(field.String(), altered(board, id, func(s *market.Snapshot) *market.Snapshot {
			s.Put(field, market.NewDecimal(-7, 1))
			return s
		}), 1, integrity.Difference{Kind: integrity.KindServed, Token: id, From: at, To: at, Field: field.String(), Served: "-70", Recomputed: fmt.Sprint(is.Value(field)), What: given})
	}
	f("names", altered(board, id, func(s *market.Snapshot) *market.Snapshot {
		s.Info = &market.Info{Symbol: "X"}
		return s
	}), 1, integrity.Difference{Kind: integrity.KindServed, Token: id, From: at, To: at, Field: "names", Served: "{X  }", Recomputed: fmt.Sprint(*is.Info), What: given})
	f("review", altered(board, id, func(s *market.Snapshot) *market.Snapshot {
		s.Review = &market.Review{LevelReference: 7}
		return s
	}), 1, integrity.Difference{Kind: integrity.KindServed, Token: id, From: at, To: at, Field: "review"})
	f("versions", altered(board, id, func(s *market.Snapshot) *market.Snapshot {
		s.Stamp(market.FieldSlug.Bit())
		return s
	}), 1, integrity.Difference{Kind: integrity.KindServed, Token: id, From: at, To: at, Field: "version of slug"})
	f("gone", altered(board, id, func(*market.Snapshot) *market.Snapshot { return nil }), 2,
		integrity.Difference{Kind: integrity.KindServed, Token: id, From: at, To: at, What: "is in the store, and not served"})
	f("a stranger", altered(board, id, func(s *market.Snapshot) *market.Snapshot {
		s.ID = 4_000_000
		return s
	}), 2, integrity.Difference{Kind: integrity.KindServed, Token: 4_000_000, From: at, To: at, What: "is served, and not in the store"})
	moved := *board
	moved.Totals.Volume24h++
	f("totals", &moved, 1, integrity.Difference{Kind: integrity.KindTotals, From: at, To: at, Served: fmt.Sprintf("%+v", moved.Totals)})
	if n := strings.Count(s.log.String(), "integrity: a difference"); uint64(n) >= s.checker.Passes.Load()*2 || n == 0 {
		t.Errorf("%d differences were logged in %d passes", n, s.checker.Passes.Load())
	}
}

func (s *server) integrity(method string) (code int, running bool, last *admin.IntegrityReport) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.admin+"/integrity", http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	var answer struct {
		Running bool
		Last    *admin.IntegrityReport
	}
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, answer.Running, answer.Last
}

// A running server checks itself when asked; a stop ends a pass.
func TestServeIntegrity(t *testing.T) {
	config := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(config, []byte("engine:\n  snapshot_interval: 1s\nmarket:\n  tokens: 40\n  tick: 50ms\n  dirt: 0.05\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	s := startServer(t, data, "--config", config)
	if code, running, last := s.integrity("GET"); code != http.StatusOK || running || last != nil {
		t.Fatalf("before: %d %v %+v", code, running, last)
	}
	var last *admin.IntegrityReport
	s.until("/metrics", func(int, string) bool {
		if _, running, r := s.integrity("GET"); !running && (r == nil || r.Tokens == 0) {
			if code, _, _ := s.integrity("POST"); code != http.StatusAccepted {
				t.Fatalf("POST: %d", code)
			}
		} else if !running {
			last = r
		}
		return last != nil
	})
	if !last.OK || last.Tokens != 40 || last.Records == 0 || last.Seq == 0 || last.Values < 40*market.NumFields || last.DurableSeq == 0 {
		t.Errorf("the pass found %+v", last)
	}
	s.until("/metrics", func(_ int, body string) bool {
		return strings.Contains(body, "\nvelocimeter_integrity_last_ok 1\n") && strings.Contains(body, "\nvelocimeter_integrity_last_tokens 40\n") &&
			strings.Contains(body, `velocimeter_integrity_differences_total{kind="served value"} 0`)
	})
	if _, body := s.get("/readyz"); !strings.Contains(body, `"integrity"`) {
		t.Errorf("readiness has no such gate: %s", body)
	}
	s.integrity("POST")
	if o := s.stop(); o.code != 0 || strings.Contains(o.stderr, "did not stop in order") {
		t.Fatalf("exit %d: %s", o.code, o.stderr)
	}
	expect(t, 0, "sound", "verify", "--data", data)
}
