package persist

import (
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
)

// behind is a file system on which much is written after the nth part of a log was
// read: a copy is slower than the writers.
type behind struct {
	vfs.FS
	reused int
	nth    int
	burst  func() // nil: nobody writes
}

func (b *behind) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	b.reused++
	return b.FS.ReuseForWrite(oldname, newname, category)
}

func (b *behind) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := b.FS.Open(name, opts...)
	if err != nil || !strings.Contains(name, "/data/live/") || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return &behindFile{f, b}, nil
}

func (b *behind) Unwrap() vfs.FS { return b.FS }

type behindFile struct {
	vfs.File
	b *behind
}

func (f *behindFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	f.b.after()
	return n, err
}

func (f *behindFile) ReadAt(p []byte, at int64) (int, error) {
	n, err := f.File.ReadAt(p, at)
	f.b.after()
	return n, err
}

func (b *behind) after() {
	if b.nth--; b.nth == 0 && b.burst != nil {
		b.burst()
	}
}

// A log that grows while it is copied is copied as it was: what is written
// meanwhile may lie behind a part that was copied before it was.
func TestBackupOfGrowingLog(t *testing.T) {
	t.Parallel()
	for _, sealed := range []bool{false, true} {
		fs := &behind{FS: vfs.NewMem()}
		o := testOptions(fs)
		o.Keys = testKeys(t, sealed)
		w := newWalk(t, 5, o, 30)
		write := func() {
			for range 20 {
				w.append(market.Second)
				w.commit()
			}
		}
		for fs.reused == 0 && len(w.model.ticks) < 300 {
			write()
		}
		if !sealed && fs.reused == 0 {
			t.Fatal("no log was used again")
		}
		for nth := 1; nth < 30; nth++ {
			last := w.model.last()
			fs.nth, fs.burst = nth, write
			b, err := w.s.Backup(t.Context(), "/backups", Checks{})
			fs.burst = nil
			switch {
			case err != nil:
				t.Errorf("sealed %v, written after part %d: %v", sealed, nth, err)
			case b.Seq < last:
				t.Errorf("sealed %v, written after part %d: %d of %d", sealed, nth, b.Seq, last)
			}
			if w.model.last() == last { // there was no such part
				if nth == 1 {
					t.Fatal("nothing was written meanwhile")
				}
				break
			}
		}
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
