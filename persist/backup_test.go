package persist

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/velocimeter/velocimeter/engine/market"
)

func mustBackup(t testing.TB, s *Store) *Backup {
	t.Helper()
	b, err := s.Backup(t.Context(), "/backups", Checks{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// restored opens what a backup gives in a data folder of its own.
func (w *walk) restored(b *Backup, dir string) *walk {
	w.t.Helper()
	o := w.o
	o.Dir = dir
	r, err := Restore(w.t.Context(), b.Dir, o, Checks{})
	if err != nil || r.Lineage != w.o.Lineage || r.Seq != b.Seq || r.Epoch == b.Epoch || r.Aside != "" {
		w.t.Fatalf("restored %+v, %v", r, err)
	}
	mk := *w.mk
	c := &walk{t: w.t, o: o, rng: w.rng, mk: &mk, model: model{ticks: slices.Clone(w.model.ticks)}}
	c.model.cut(b.Seq)
	c.open()
	rec := c.s.Recovery()
	if rec.Epoch != r.Epoch || !rec.Clean || rec.DurableSeq != b.Seq || rec.NextSeq != b.Seq+1 {
		w.t.Fatalf("recovered %+v after a backup at %d", rec, b.Seq)
	}
	c.state = w.saved[rec.StateSeq]
	if n := len(c.model.ticks); n > 0 {
		c.mk.now = c.model.ticks[n-1].Env.Now
	}
	return c
}

// A backup made under load gives the state, the journal and the history of its seq.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	w := newWalk(t, 21, testOptions(vfs.NewMem()), 6)
	var all []*Backup
	for range rounds {
		var group sync.WaitGroup
		group.Go(func() {
			b, err := w.s.Backup(t.Context(), "/backups", Checks{})
			if err != nil {
				t.Error(err)
				return
			}
			all = append(all, b)
		})
		for range 200 {
			w.append(market.Millis(1 + w.rng.Int64N(int64(4*market.Minute))))
			switch w.rng.IntN(6) {
			case 0:
				w.save()
			case 1, 2:
				w.commit()
			}
		}
		group.Wait()
	}
	all = append(all, mustBackup(t, w.s))
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err := w.s.Backup(t.Context(), "/backups", Checks{}); !errors.Is(err, ErrClosed) {
		t.Errorf("backup of a closed store: %v, %v", b, err)
	}
	for i, b := range all {
		c := w.restored(b, fmt.Sprintf("/restored-%d", i))
		c.checkRecovery()
		for _, id := range c.mk.ids {
			c.checkHistory(id)
		}
		c.append(market.Second)
		c.commit()
		if err := c.s.Close(); err != nil {
			t.Fatal(err)
		}
		if rep := mustVerify(t, w.o.FS, fmt.Sprintf("/restored-%d/live", i)); !rep.Sound() {
			t.Errorf("after going on: %+v", rep.Faults)
		}
	}
	if left, _ := w.o.FS.List("/data"); slices.Contains(left, "live"+checkpointSuffix) {
		t.Errorf("left behind: %v", left)
	}
}

// Any flipped bit of any file of a backup is reported, and so is what is cut,
// missing or foreign; nothing of it is restored.
func TestDamagedBackup(t *testing.T) {
	mem := vfs.NewMem()
	kept(t, mem, nil)
	o := testOptions(mem)
	b, err := BackupLineage(t.Context(), o, "/backups", Checks{})
	if err != nil {
		t.Fatal(err)
	}
	other := newWalk(t, 3, Options{Dir: "/other", Lineage: "other", FS: mem}, 3)
	other.append(market.Second)
	foreign := mustBackup(t, other.s)
	if err := other.s.Close(); err != nil {
		t.Fatal(err)
	}
	strange := bytesOf(t, mem, foreign.Dir)
	files := bytesOf(t, mem, b.Dir)
	if len(files) != len(b.Files)+1 || b.Records == 0 || b.Bytes == 0 || !strings.HasPrefix(b.Dir, "/backups/live-") {
		t.Fatalf("%d files of %+v", len(files), b)
	}
	o.Dir = "/new"
	bad := func(what string) {
		t.Helper()
		if rep := mustVerify(t, mem, b.Dir); rep.Sound() {
			t.Errorf("%s: sound", what)
		}
		if r, err := Restore(t.Context(), b.Dir, o, Checks{}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: restored %+v, %v", what, r, err)
		}
	}
	rng, flips := rand.New(rand.NewPCG(9, 9)), 20
	if testing.Short() {
		flips = 4
	}
	for name, data := range files {
		path := mem.PathJoin(b.Dir, name)
		put := func(what, changed string) {
			t.Helper()
			if err := writeFile(mem, path, []byte(changed)); err != nil {
				t.Fatal(err)
			}
			bad(name + " " + what)
		}
		for range flips {
			if len(data) == 0 {
				break
			}
			at := rng.IntN(len(data))
			again := flip(t, mem, path, data, at, 1<<rng.IntN(8))
			bad(fmt.Sprintf("%s flipped at %d", name, at))
			again()
		}
		put("with more", data+"x")
		if len(data) > 0 {
			put("cut", data[:len(data)-1])
			put("empty", "")
		}
		put("of another", strange[manifestFile])
		if name != manifestFile {
			if err := mem.Remove(path); err != nil {
				t.Fatal(err)
			}
			bad(name + " missing")
		}
		if err := writeFile(mem, path, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeFile(mem, mem.PathJoin(b.Dir, "000099.sst"), nil); err != nil {
		t.Fatal(err)
	}
	bad("a file too many")
	if err := errors.Join(mem.Remove(mem.PathJoin(b.Dir, "000099.sst")), mem.Remove(mem.PathJoin(b.Dir, manifestFile))); err != nil {
		t.Fatal(err)
	}
	if r, err := Restore(t.Context(), b.Dir, o, Checks{}); !errors.Is(err, ErrNoBackup) {
		t.Errorf("without a manifest: %+v, %v", r, err)
	}
	if r, err := Restore(t.Context(), "/backups", o, Checks{}); !errors.Is(err, ErrNoBackup) {
		t.Errorf("no backup at all: %+v, %v", r, err)
	}
	if _, err := mem.Stat("/new/live"); err == nil {
		t.Error("something was restored")
	}
}

// A damaged store is not backed up as if it were whole.
func TestBackupOfDamage(t *testing.T) {
	mem := vfs.NewMem()
	kept(t, mem, func(s *Store) {
		spoil(t, s, keysOf(t, s.db, 'q')[0])
		b, err := s.Backup(t.Context(), "/backups", Checks{})
		if !errors.Is(err, ErrCorrupt) || strings.Contains(err.Error(), partialSuffix) || !strings.Contains(err.Error(), `the copy "/backups/live-2`) {
			t.Errorf("backup %+v, %v", b, err)
		}
	})
	if left, err := mem.List("/backups"); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if b, err := BackupLineage(ctx, testOptions(mem), "/backups", Checks{}); !errors.Is(err, context.Canceled) {
		t.Errorf("backup %+v, %v", b, err)
	}
}

// A disk that lets itself only be read, as after errors, can still be backed up.
func TestBackupOfReadOnlyDisk(t *testing.T) {
	mem := vfs.NewMem()
	kept(t, mem, nil)
	o := testOptions(unlockable{mem, &fs.PathError{Op: "open", Path: "/data/LOCK", Err: syscall.EROFS}})
	if b, err := BackupLineage(t.Context(), o, "/backups", Checks{}); err != nil || b.Seq == 0 {
		t.Errorf("backup %+v, %v", b, err)
	}
}

// A log that lost its end is no torn tail where more was durable.
func TestBackupOfShortLog(t *testing.T) {
	mem := vfs.NewMem()
	w := newWalk(t, 12, testOptions(mem), 3)
	for range 9 {
		w.append(market.Second)
		w.commit()
	}
	if err := w.s.Abandon(); err != nil {
		t.Fatal(err)
	}
	if rep := mustVerify(t, mem, "/data/live"); !rep.Sound() || rep.DurableSeq != 9 {
		t.Fatalf("%+v", rep)
	}
	for name, data := range bytesOf(t, mem, "/data/live") {
		if strings.HasSuffix(name, ".log") {
			if err := writeFile(mem, "/data/live/"+name, []byte(data[:len(data)/2])); err != nil {
				t.Fatal(err)
			}
		}
	}
	rep := mustVerify(t, mem, "/data/live")
	if f := rep.Faults; len(f) != 1 || f[0].Key != markFile || f[0].From != rep.DurableSeq+1 || f[0].To != 9 {
		t.Errorf("%+v", rep)
	}
	if b, err := BackupLineage(t.Context(), w.o, "/backups", Checks{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("backup %+v, %v", b, err)
	}
}

func TestRestoreReplaces(t *testing.T) {
	w := newWalk(t, 8, testOptions(vfs.NewMem()), 3)
	w.append(market.Second)
	w.commit()
	b := mustBackup(t, w.s)
	w.append(market.Second)
	o := w.o
	o.Fresh = true
	if r, err := Restore(t.Context(), b.Dir, o, Checks{}); !errors.Is(err, ErrLocked) {
		t.Errorf("restored %+v into a folder in use: %v", r, err)
	}
	if b, err := BackupLineage(t.Context(), w.o, "/backups", Checks{}); !errors.Is(err, ErrLocked) {
		t.Errorf("backed up %+v of a folder in use: %v", b, err)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := Restore(t.Context(), b.Dir, w.o, Checks{}); !errors.Is(err, ErrExists) {
		t.Errorf("restored %+v over a lineage: %v", r, err)
	}
	r, err := Restore(t.Context(), b.Dir, o, Checks{})
	if err != nil || r.Aside != "/data/live."+b.Epoch+".old" {
		t.Fatalf("restored %+v, %v", r, err)
	}
	if rep := mustVerify(t, o.FS, r.Aside); !rep.Sound() || rep.DurableSeq != 2 || rep.Epoch != b.Epoch {
		t.Errorf("aside: %+v", rep)
	}
	if rep := mustVerify(t, o.FS, "/data/live"); !rep.Sound() || rep.DurableSeq != 1 || rep.Epoch != r.Epoch {
		t.Errorf("restored: %+v", rep)
	}
}

// A backup is restored above all where the lineage is damaged, whatever cannot be
// read of it.
func TestRestoreReplacesDamage(t *testing.T) {
	mem := vfs.NewMem()
	w := newWalk(t, 8, testOptions(mem), 3)
	w.append(market.Second)
	b := mustBackup(t, w.s)
	if err := errors.Join(w.s.db.Flush(), w.s.Close()); err != nil {
		t.Fatal(err)
	}
	for _, name := range filesOf(t, mem, "/data/live") {
		if strings.HasSuffix(name, ".sst") {
			data := contentsOf(t, mem, name)
			data[100] ^= 1 // in the first block
			rewrite(t, mem, name, data)
		}
	}
	if rep := mustVerify(t, mem, "/data/live"); rep.Sound() || strings.Contains(fmt.Sprint(rep.Faults), "BUG") {
		t.Fatalf("damaged: %+v", rep.Faults)
	}
	w.o.Fresh = true
	r, err := Restore(t.Context(), b.Dir, w.o, Checks{})
	if err != nil || r.Aside == "" {
		t.Fatalf("restored %+v, %v", r, err)
	}
	if rep := mustVerify(t, mem, "/data/live"); !rep.Sound() || rep.Epoch != r.Epoch {
		t.Errorf("restored: %+v", rep)
	}
}

func TestPrune(t *testing.T) {
	mem := vfs.NewMem()
	now := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	put := func(lineage string, day int) {
		t.Helper()
		m := Manifest{Format: backupFormat, Lineage: lineage, Epoch: "0123456789abcdef", Made: time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC)}
		data, err := m.encode()
		dir := fmt.Sprintf("/b/%s-%02d", lineage, day)
		if err := errors.Join(err, mem.MkdirAll(dir, 0o755), writeFile(mem, dir+"/"+manifestFile, data)); err != nil {
			t.Fatal(err)
		}
	}
	f := func(keep int, age time.Duration, want int) {
		t.Helper()
		for day := 1; day <= 9; day++ {
			put("live", day)
		}
		put("live-2", 1)
		if err := mem.MkdirAll("/b/live-00", 0o755); err != nil { // no backup
			t.Fatal(err)
		}
		gone, err := Prune(mem, "/b", "live", keep, age, now)
		left, listErr := Backups(mem, "/b", "live")
		if err := errors.Join(err, listErr); err != nil || len(left) != want || len(gone) != 9-want || left[want-1].Dir != "/b/live-09" {
			t.Errorf("keep %d, age %s: left %d, gone %v, %v; want %d", keep, age, len(left), gone, err, want)
		}
		if others, err := Backups(mem, "/b", "live-2"); err != nil || len(others) != 1 {
			t.Errorf("others %v, %v", others, err)
		}
	}
	const day = 24 * time.Hour
	f(7, 0, 7)
	f(1, 0, 1)
	f(20, 0, 9)
	f(20, 25*day, 4)
	f(3, 25*day, 3)
	f(20, day, 1)
	// A clock that had run ahead must not have what is made now removed.
	put("live", 31+10)
	if gone, err := Prune(mem, "/b", "live", 1, 0, now); err != nil || len(gone) != 1 || gone[0] != "/b/live-41" {
		t.Errorf("of one that is not made yet: removed %v, %v", gone, err)
	}
	if list, err := Backups(mem, "/nowhere", "live"); err != nil || list != nil {
		t.Errorf("nowhere: %v, %v", list, err)
	}
}

// A power cut at any moment of a backup leaves no folder that looks finished and
// is not; one at any moment of a restore leaves the old lineage or the new one.
func TestPowerCutDuringBackupAndRestore(t *testing.T) {
	every := 1
	if testing.Short() {
		every = 9
	}
	for n := 1; ; n += every {
		mem := vfs.NewCrashableMem()
		w := newWalk(t, 4, testOptions(mem), 3)
		for range 5 {
			w.append(market.Minute)
		}
		w.save()
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
		c := &crasher{mem: mem, rng: rand.New(rand.NewPCG(uint64(n), 3)), left: n}
		o := testOptions(errorfs.Wrap(mem, c))
		o.Fresh = true
		b, err := BackupLineage(t.Context(), o, "/backups", Checks{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := Restore(t.Context(), b.Dir, o, Checks{})
		if err != nil {
			t.Fatal(err)
		}
		if !c.crashed() {
			return
		}
		found, _ := Backups(c.after, "/backups", "live")
		for _, f := range found {
			if rep := mustVerify(t, c.after, f.Dir); !rep.Sound() || rep.DurableSeq != 5 {
				t.Fatalf("cut at %d: %+v", n, rep)
			}
		}
		s := mustOpen(t, testOptions(c.after))
		if rec := s.Recovery(); rec.DurableSeq != 5 || rec.StateSeq != 5 || !rec.Clean || rec.Epoch != b.Epoch && rec.Epoch != r.Epoch {
			t.Fatalf("cut at %d: recovered %+v", n, rec)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A backup that fails at any write is an error, and the store goes on.
func TestFailedBackup(t *testing.T) {
	var fails, seen atomic.Int64
	o := testOptions(errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if fails.Load() > 0 && strings.HasPrefix(op.Path, "/backups") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && seen.Add(1) == fails.Load() {
			return errorfs.ErrInjected
		}
		return nil
	})))
	w := newWalk(t, 4, o, 3)
	for n := int64(1); ; n++ {
		w.append(market.Second)
		seen.Store(0)
		fails.Store(n)
		b, err := w.s.Backup(t.Context(), "/backups", Checks{})
		fails.Store(0)
		w.commit()
		hit := seen.Load() >= n
		if hit && err == nil {
			t.Logf("write %d does not matter", n)
		}
		if list, listErr := Backups(o.FS, "/backups", "live"); listErr != nil || err == nil && len(list) == 0 {
			t.Fatalf("write %d: %v, %v", n, list, listErr)
		} else if err == nil {
			if rep := mustVerify(t, o.FS, b.Dir); !rep.Sound() {
				t.Fatalf("write %d: %+v", n, rep)
			}
		}
		if !hit {
			break
		}
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}
