package persist

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Between the two renames of a mending readers say what is going on, and the next
// start goes on; it begins anew only where there is nothing else.
func TestBetweenRenames(t *testing.T) {
	o := testOptions(vfs.Default)
	o.Dir = t.TempDir()
	w := newWalk(t, 3, o, 5)
	for range 60 {
		w.append(market.Minute)
	}
	w.commit()
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	flagDamaged(t, &o)
	cut := o
	cut.FS = errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpRename && strings.HasSuffix(op.Path, mendSuffix) {
			return syscall.EIO
		}
		return nil
	}))
	for range 2 {
		if _, err := Open(cut); err == nil {
			t.Fatal("opened")
		}
		if _, err := OpenReadOnly(o); !errors.Is(err, ErrMending) || errors.Is(err, ErrAbsent) {
			t.Errorf("OpenReadOnly: %v", err)
		}
		if _, err := Verify(t.Context(), VerifyOptions{Dir: filepath.Join(o.Dir, o.Lineage)}); !errors.Is(err, ErrMending) {
			t.Errorf("Verify: %v", err)
		}
		if names, err := Lineages(o.Dir); err != nil || !slices.Equal(names, []string{o.Lineage}) {
			t.Errorf("Lineages: %v, %v", names, err)
		}
	}
	s := mustOpen(t, o)
	if rec := s.Recovery(); rec.Mended == nil || rec.DurableSeq != 60 {
		t.Errorf("%+v", rec)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if names, err := Lineages(o.Dir); err != nil || !slices.Equal(names, []string{o.Lineage}) {
		t.Errorf("Lineages: %v, %v", names, err)
	}
	if _, err := os.Stat(filepath.Join(o.Dir, o.Lineage+mendSuffix)); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	o.Lineage = "other"
	if _, err := OpenReadOnly(o); !errors.Is(err, ErrAbsent) {
		t.Errorf("one that never was: %v", err)
	}
}
