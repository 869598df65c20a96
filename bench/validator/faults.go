//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/velocimeter/velocimeter/bench/validator/ledger"
)

// fault is something that happens to a server; promised is durable_seq as it was
// told before.
type fault struct {
	name    string
	inflict func(r *run, ctx context.Context, promised uint64) error
}

func allFaults() []fault {
	return []fault{
		{"kill", (*run).killIt},
		{"boot", (*run).killBoot},
		{"term", (*run).term},
		{"drain", (*run).killDrain},
		{"freeze", (*run).freeze},
		{"provider", (*run).mislead},
		{"crowd", (*run).crowd},
		{"second", (*run).second},
		{"leave", (*run).leave},
		{"full", (*run).full},
	}
}

func faultNames() (names []string) {
	for _, f := range allFaults() {
		names = append(names, f.name)
	}
	return names
}

var errFault = errors.New("there is no such fault")

// shuffled returns the faults of the run in the seed's order.
func (r *run) shuffled() (chosen []fault, err error) {
	wanted := strings.Split(r.cfg.faults, ",")
	for _, name := range wanted {
		if name != "all" && !slices.Contains(faultNames(), name) {
			return nil, fmt.Errorf("cannot inflict %q: %w", name, errFault)
		}
	}
	for _, f := range allFaults() {
		if r.skipped[f.name] == "" && (slices.Contains(wanted, "all") || slices.Contains(wanted, f.name)) {
			chosen = append(chosen, f)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("cannot inflict %q here: %w", r.cfg.faults, errFault)
	}
	r.rng.Shuffle(len(chosen), func(i, k int) { chosen[i], chosen[k] = chosen[k], chosen[i] })
	return chosen, nil
}

// some is a random time up to d.
func (r *run) some(d time.Duration) time.Duration { return time.Duration(r.rng.Int64N(int64(d))) }

// early is how every run begins: a server whose provider fails is killed before
// it has anything, and is not ready before it has something.
func (r *run) early(ctx context.Context) error {
	all := misdeeds()
	for range 8 {
		r.provider.next(all[r.rng.IntN(2)])
	}
	if err := r.server.start(ctx, "0s"); err != nil {
		return err
	}
	pause(ctx, 100*time.Millisecond+r.some(400*time.Millisecond))
	if err := r.crash(ctx, 0); err != nil {
		return err
	}
	if err := r.server.start(ctx, "50ms"); err != nil {
		return err
	}
	for range 10 {
		pause(ctx, 50*time.Millisecond)
		r.readiness(ctx)
	}
	r.provider.mend()
	err := r.server.ready(ctx, 30*time.Second)
	if ctx.Err() == nil {
		r.book.Check(ledger.Ready, err == nil, "%v", err)
	}
	return err
}

// killIt kills the server under load.
func (r *run) killIt(ctx context.Context, _ uint64) error {
	pause(ctx, r.some(3*time.Second))
	if err := r.crash(ctx, r.book.Promise()); err != nil {
		return err
	}
	return r.boot(ctx)
}

// killBoot kills the server again and again while it starts.
func (r *run) killBoot(ctx context.Context, promised uint64) error {
	if err := r.crash(ctx, promised); err != nil {
		return err
	}
	for range 2 + r.rng.IntN(4) {
		if err := r.server.start(ctx, "0s"); err != nil {
			return err
		}
		pause(ctx, r.some(400*time.Millisecond))
		if err := r.crash(ctx, promised); err != nil {
			return err
		}
	}
	return r.boot(ctx)
}

// term stops the server in order.
func (r *run) term(ctx context.Context, _ uint64) error {
	if err := r.stop(ctx, false); err != nil {
		return err
	}
	return r.boot(ctx)
}

// killDrain kills the server while it stops.
func (r *run) killDrain(ctx context.Context, promised uint64) error {
	cmd, _ := r.server.process()
	r.server.phase.CompareAndSwap(up, ending)
	_ = cmd.Process.Signal(syscall.SIGTERM)
	pause(ctx, r.some(200*time.Millisecond))
	if err := r.crash(ctx, promised); err != nil {
		return err
	}
	return r.boot(ctx)
}

// freeze stops the clock of the process.
func (r *run) freeze(ctx context.Context, _ uint64) error {
	cmd, _ := r.server.process()
	before := r.answers()
	_ = cmd.Process.Signal(syscall.SIGSTOP)
	pause(ctx, time.Second+r.some(5*time.Second))
	_ = cmd.Process.Signal(syscall.SIGCONT)
	pause(ctx, time.Second)
	r.book.Check(ledger.Alive, r.answers()-before <= 4, "%d polls within a second of a pause: it caught up", r.answers()-before)
	return r.server.ready(ctx, 20*time.Second)
}

// mislead has the provider give wrong answers, with right ones between them.
func (r *run) mislead(ctx context.Context, _ uint64) error {
	all := misdeeds()
	var names []string
	for range 3 + r.rng.IntN(3) {
		m := all[r.rng.IntN(len(all))]
		names = append(names, m.name)
		r.provider.next(m, misdeed{})
	}
	r.say("answers: %s", strings.Join(names, ", "))
	for end := time.Now().Add(25 * time.Second); time.Now().Before(end) && ctx.Err() == nil && r.provider.wrong(); {
		pause(ctx, 200*time.Millisecond)
	}
	r.provider.mend()
	return nil
}

// crowd has useless clients come and leave.
func (r *run) crowd(ctx context.Context, _ uint64) error {
	leave := crowd(ctx, r.server.public, r.rng, 20+r.rng.IntN(60))
	pause(ctx, time.Second+r.some(3*time.Second))
	leave()
	return nil
}

// second starts another process on the same folder.
func (r *run) second(ctx context.Context, _ uint64) error {
	public, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	admin, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := r.server.command(ctx, append([]string{"serve", "--listen", public, "--admin-listen", admin, "--data", r.server.data}, r.server.args...)...)
	out, _ := cmd.CombinedOutput()
	r.book.Searched("the log of a second process", out, r.server.canaries)
	r.book.Check(ledger.Alive, cmd.ProcessState.ExitCode() == 75, "a second process on the same folder ends with %d, not 75: %s", cmd.ProcessState.ExitCode(), out)
	return nil
}

// leave has every witness leave, and come again.
func (r *run) leave(ctx context.Context, _ uint64) error {
	r.released(ctx)
	r.watch(ctx)
	return nil
}

// full fills the disk under the store. The market goes on; history pauses and
// comes back with the room.
func (r *run) full(ctx context.Context, promised uint64) error {
	r.book.Unsure()
	filler := filepath.Join(r.mounted, "filler")
	if err := fill(filler); err != nil {
		return err
	}
	defer os.Remove(filler) //nolint:errcheck // where it returns early
	seq := r.book.Shows()
	r.until(ctx, 5*time.Second, func(g map[string]float64) bool { return g["velocimeter_storage_paused"] == 1 })
	pause(ctx, 2*time.Second+r.some(2*time.Second))
	r.book.Check(ledger.Ready, r.book.Shows() > seq, "the disk is full and the market stands still at seq %d", seq)
	how := r.rng.IntN(3)
	if how == 1 { // and it starts on a full disk
		if err := r.crash(ctx, promised); err != nil {
			return err
		}
		r.book.Unsure()
		if err := r.boot(ctx); err != nil {
			return err
		}
	}
	if err := os.Remove(filler); err != nil {
		return fmt.Errorf("cannot make room: %w", err)
	}
	if how == 2 { // about when history goes on
		pause(ctx, r.some(1500*time.Millisecond))
		r.torn, r.tornAt = true, cmp.Or(r.tornAt, r.book.Promise())
		err := r.crash(ctx, promised)
		if r.torn = false; err != nil {
			return err
		}
		return r.boot(ctx)
	}
	resumed := r.until(ctx, 15*time.Second, func(g map[string]float64) bool {
		return g["velocimeter_storage_paused"] == 0 && uint64(g["velocimeter_storage_durable_seq"]) > seq
	})
	r.book.Check(ledger.Durable, resumed || ctx.Err() != nil, "history did not go on within 15 s of there being room again")
	r.server.terminate()
	pause(ctx, 300*time.Millisecond)
	if err := r.verify(ctx, promised, func(durable uint64) { r.book.Stopped(durable, false) }); err != nil {
		return err
	}
	return r.boot(ctx)
}

// until waits until the metrics are as wanted.
func (r *run) until(ctx context.Context, limit time.Duration, ok func(map[string]float64) bool) bool {
	for end := time.Now().Add(limit); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, 100*time.Millisecond) {
		if g, err := r.server.gauges(ctx); err == nil && ok(g) {
			return true
		}
	}
	return false
}

// fill writes a file until there is no room.
func fill(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("cannot fill the disk: %w", err)
	}
	defer f.Close() //nolint:errcheck // it is to be removed
	for size := 1 << 20; size >= 4096; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				return fmt.Errorf("cannot fill the disk: %w", err)
			}
			size /= 4
		}
	}
	return nil
}
