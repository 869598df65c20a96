package persist

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/velocimeter/velocimeter/engine/market"
)

// killedRestore is a data folder as a restore left it that was ended at its n-th
// operation.
type killedRestore struct {
	t        *testing.T
	at       string
	disk     *vfs.MemFS
	old, new string // epochs
	o        Options
	log      bytes.Buffer
}

// A restore that is ended at any moment, by a kill or a power cut, leaves the old
// lineage or the new one, whole. What it made before it set the old one aside is
// never put in place: not by later starts, nor when somebody else moves the
// lineage away.
func TestKilledRestore(t *testing.T) {
	t.Parallel()
	base := vfs.NewCrashableMem()
	w := newWalk(t, 4, testOptions(base), 3)
	for range 5 {
		w.append(market.Minute)
	}
	w.commit()
	b := mustBackup(t, w.s)
	for range 3 {
		w.append(market.Minute)
	}
	w.save()
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, kill := range []bool{false, true} {
		seen := map[string]bool{}
		for n := 1; ; n++ {
			rng := rand.New(rand.NewPCG(uint64(n), 5))
			mem := base.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})
			c := &crasher{mem: mem, rng: rng, left: n, kill: kill, kept: []int{0}}
			o := testOptions(errorfs.Wrap(mem, c))
			o.Fresh = true
			r, err := Restore(t.Context(), b.Dir, o, Checks{})
			if err != nil {
				t.Fatal(err)
			}
			if !c.crashed() {
				break
			}
			again := func() *killedRestore {
				disk := c.after.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})
				k := &killedRestore{t: t, disk: disk, old: b.Epoch, new: r.Epoch, o: testOptions(disk)}
				k.at = fmt.Sprintf("ended at %d, killed: %v", n, kill)
				k.o.Logger = slog.New(slog.NewTextHandler(&k.log, nil))
				return k
			}
			seen[again().started()] = true
			again().movedAway()
			if testing.Short() {
				n += 4
			}
		}
		if !testing.Short() && len(seen) != 3 {
			t.Errorf("killed: %v: the restore was cut into %v", kill, seen)
		}
	}
}

// open starts and stops, and returns the epoch.
func (k *killedRestore) open() string {
	k.t.Helper()
	s, err := Open(k.o)
	if err != nil {
		k.t.Fatalf("%s: %v", k.at, err)
	}
	rec := s.Recovery()
	if err := s.Close(); err != nil {
		k.t.Fatal(err)
	}
	want := map[string]uint64{k.old: 8, k.new: 5}[rec.Epoch]
	if rec.DurableSeq != want || rec.Mended != nil || len(rec.Damage) > 0 || want > 0 && !rec.Clean {
		k.t.Fatalf("%s: recovered %+v, old %s, new %s\n%s", k.at, rec, k.old, k.new, k.log.String())
	}
	if rep := mustVerify(k.t, k.disk, "/data/live"); !rep.Sound() {
		k.t.Fatalf("%s: %+v", k.at, rep)
	}
	return rec.Epoch
}

func (k *killedRestore) has(name string) bool {
	k.t.Helper()
	there, err := exists(k.disk, "/data/"+name)
	if err != nil {
		k.t.Fatal(err)
	}
	return there
}

// started starts twice, then once more after somebody moved the lineage away.
func (k *killedRestore) started() (how string) {
	k.t.Helper()
	first := k.open()
	second := k.open()
	left, told := k.has("live.restore"), strings.Count(k.log.String(), "repeat `velocimeter restore`")
	if second != first || first != k.old && first != k.new || k.has("live.restore.partial") {
		k.t.Fatalf("%s: epochs %s, %s", k.at, first, second)
	}
	if left != (told == 2) || left && first != k.old || first == k.new && !k.has("live."+k.old+".old") {
		k.t.Fatalf("%s: epoch %s, a copy is left: %v, told %d times", k.at, first, left, told)
	}
	if err := k.disk.Rename("/data/live", "/data/mine"); err != nil {
		k.t.Fatal(err)
	}
	if third := k.open(); third == k.old || third == k.new || left != k.has("live.restore") {
		k.t.Fatalf("%s: epoch %s came back", k.at, third)
	}
	switch {
	case left:
		return "left"
	case first == k.new:
		return "new"
	}
	return "old"
}

// movedAway has somebody move the lineage away before the first start.
func (k *killedRestore) movedAway() {
	k.t.Helper()
	if !k.has("live") || !k.has("live.restore") {
		return
	}
	if err := errors.Join(k.disk.Rename("/data/live", "/data/mine"), syncDir(k.disk, "/data")); err != nil {
		k.t.Fatal(err)
	}
	if epoch := k.open(); epoch == k.old || epoch == k.new || !k.has("live.restore") {
		k.t.Fatalf("%s: epoch %s", k.at, epoch)
	}
}

// What is left of a backup or a restore and cannot be removed is no reason not to
// start, let alone to mend.
func TestLeftoversThatStay(t *testing.T) {
	mem := vfs.NewMem()
	w := newWalk(t, 3, testOptions(mem), 3)
	w.append(market.Second)
	for _, name := range []string{"live.checkpoint", "live.restore.partial"} {
		if err := mem.MkdirAll("/data/"+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	o := w.o
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	o.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpRemoveAll {
			return syscall.EIO
		}
		return nil
	}))
	s := mustOpen(t, o)
	if rec := s.Recovery(); rec.Mended != nil || rec.DurableSeq != 1 || strings.Count(log.String(), "cannot remove") != 2 {
		t.Errorf("%+v\n%s", rec, log.String())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
