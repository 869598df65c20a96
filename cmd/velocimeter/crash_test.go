package main

import (
	"bufio"
	"cmp"
	"context"
	"flag"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/transport/upstream/recording"
)

// child is the program in a process of its own, to be killed.
type child struct {
	t      testing.TB
	cmd    *exec.Cmd
	public string
	admin  string
	log    lockedBuffer
	client *http.Client
	ended  chan error
}

func startChild(ctx context.Context, t testing.TB, data string, args ...string) *child {
	t.Helper()
	public, admin := freePort(t), freePort(t)
	args = append([]string{"serve", "--listen", public, "--admin-listen", admin, "--data", data}, args...)
	c := &child{t: t, public: "http://" + public, admin: "http://" + admin, ended: make(chan error, 1), client: &http.Client{Transport: &http.Transport{}}}
	c.cmd = exec.CommandContext(ctx, os.Args[0], args...)
	c.cmd.Env = append(os.Environ(), "TEST_VELOCIMETER_MAIN=1", "CMC_API_KEY=", "GORACE=halt_on_error=1")
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { c.ended <- c.cmd.Wait() }()
	return c
}

// gauge reads one metric; false while the child does not answer.
func (c *child) gauge(name string) (value uint64, ok bool) {
	resp, err := c.client.Get(c.admin + "/metrics")
	if err != nil {
		return 0, false
	}
	defer resp.Body.Close()
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		if text, found := strings.CutPrefix(sc.Text(), name+" "); found {
			f, err := strconv.ParseFloat(text, 64)
			return uint64(f), err == nil
		}
	}
	return 0, false
}

// until looks again and again, at most for ten seconds.
func (c *child) until(what string, ok func() bool) {
	c.t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for range 5000 {
		if ok() {
			return
		}
		<-ticker.C
	}
	c.t.Fatalf("%s never came; the child's log:\n%s", what, c.log.String())
}

// finished waits for the end of the recording and until all of it is durable.
func (c *child) finished() {
	c.t.Helper()
	c.until("the end of the recording", func() bool { return strings.Contains(c.log.String(), "the replay has ended") })
	c.until("durability", func() bool {
		durable, _ := c.gauge("velocimeter_storage_durable_seq")
		seq, _ := c.gauge("velocimeter_market_seq")
		return durable > 0 && durable == seq
	})
}

func (c *child) end(signal os.Signal) {
	_ = c.cmd.Process.Signal(signal)
	<-c.ended
	c.client.CloseIdleConnections()
}

// seen is what a killed child had said before.
type seen struct{ durable, seq uint64 }

// endAt ends the child at a random moment: while it starts, or when so much
// more is durable.
func (c *child) endAt(rng *rand.Rand, from uint64, signal os.Signal) (s seen) {
	defer c.end(signal)
	if signal == syscall.SIGKILL && rng.IntN(3) == 0 {
		<-time.After(time.Duration(rng.IntN(150)) * time.Millisecond)
		return s
	}
	goal := from + 1 + rng.Uint64N(uint64(2*hardPolls / *kills))
	deadline := time.After(700 * time.Millisecond) // the recording may be at its end
	for s.durable < goal {
		s.durable, _ = c.gauge("velocimeter_storage_durable_seq")
		s.seq, _ = c.gauge("velocimeter_market_seq")
		select {
		case <-deadline:
			return s
		case <-time.After(time.Millisecond):
		}
	}
	return s
}

var (
	kills    = flag.Int("kills", 20, "how often TestKillAndRestart kills the program")
	killSeed = flag.Uint64("kill-seed", 0, "seed of the moments of TestKillAndRestart; 0 for any")
)

// Killed again and again, also while it starts, the program comes back with
// exactly what it had made durable: every value, version and window, the same
// epoch, seqs that nobody has seen, and the poll after the last durable one.
func TestKillAndRestart(t *testing.T) {
	seed := cmp.Or(*killSeed, rand.Uint64())
	t.Logf("repeat with -kill-seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	name := hardSeries(t)
	r, err := recording.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	lineage := "replay-" + r.Hash()[:16]
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	u := runHard(t, name)
	data := filepath.Join(t.TempDir(), "data")
	var c count
	var epoch string
	var before, next uint64 // the newest durable seq, the first unused one
	midway := 0
	for round := range *kills + 1 {
		args := []string{"--replay", name, "--speed", []string{"max", "20000", "5000", "5000"}[rng.IntN(4)], "--sync-window", []string{"0s", "0s", "7ms"}[rng.IntN(3)]}
		kid := startChild(t.Context(), t, data, args...)
		signal := syscall.SIGKILL
		if round == 3 {
			signal = syscall.SIGTERM // so that later rounds have a state to begin with
		}
		s := kid.endAt(rng, before, signal)
		if _, err := os.Stat(filepath.Join(data, lineage)); err != nil {
			continue // killed before it had a store
		}
		found := reopen(t, copyStore(t, data), lineage)
		rec := found.rec
		if rec.DurableSeq < max(s.durable, before) || rec.NextSeq <= max(s.seq, rec.DurableSeq) || rec.NextSeq < next || epoch != "" && rec.Epoch != epoch || len(rec.Damage) > 0 {
			t.Fatalf("round %d: %+v; the child had said %+v, epoch %s; its log:\n%s", round, rec, s, epoch, kid.log.String())
		}
		compareRestored(t, u, found, &c)
		if t.Failed() {
			t.Fatalf("round %d, log of the child:\n%s", round, kid.log.String())
		}
		t.Logf("round %d: durable seq %d is tick %d, poll %d; next %d; %d shown", round, rec.DurableSeq, c.of(rec.DurableSeq), rec.Position, rec.NextSeq, s.seq)
		if rec.DurableSeq > before && rec.Position < hardPolls {
			midway++
		}
		c.skip(rec.DurableSeq, rec.NextSeq)
		before, next = rec.DurableSeq, rec.NextSeq
		if next > 1 { // else the child had no epoch yet, and the one found is the copy's own
			epoch = rec.Epoch
		}
	}
	t.Logf("%d kills in the middle of things", midway)
	finishKilled(t, u, &c, name, data, lineage, epoch, next)
}

// finishKilled lets the recording end and stops in order: nothing differs from a
// run in one go, and nothing is lost.
func finishKilled(t *testing.T, u *uninterrupted, c *count, name, data, lineage, epoch string, next uint64) {
	t.Helper()
	kid := startChild(t.Context(), t, data, "--replay", name, "--speed", "max", "--sync-window", "5ms")
	kid.finished()
	kid.end(syscall.SIGTERM)
	if code := kid.cmd.ProcessState.ExitCode(); code != exitOK {
		t.Fatalf("exit %d; log:\n%s", code, kid.log.String())
	}
	found := reopen(t, copyStore(t, data), lineage)
	if rec := found.rec; rec.Epoch != epoch || !rec.Clean || rec.Position != hardPolls || rec.StateSeq != rec.DurableSeq || rec.NextSeq < next {
		t.Errorf("after the end: %+v", rec)
	}
	compareRestored(t, u, found, c)
}
