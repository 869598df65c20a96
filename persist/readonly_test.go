package persist

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
)

// contents hashes every file below a folder.
func contents(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	all := map[string][32]byte{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		all[path] = sha256.Sum256(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// histories are the pages of every token and granularity.
func histories(t *testing.T, s *Store, ids []market.ID) (pages []*market.HistoryPage) {
	t.Helper()
	for _, id := range ids {
		for g := range market.NumGranularities {
			p, err := s.History(t.Context(), market.HistoryQuery{ID: id, To: 1 << 50, Granularity: g, Limit: 1 << 30})
			if err != nil {
				t.Fatal(err)
			}
			pages = append(pages, p)
		}
	}
	return pages
}

// A reader shows what the next start shows, after any stop, and leaves every
// file as it was.
func TestReadOnly(t *testing.T) {
	for n := range 4 {
		clean := n%2 == 0
		o := testOptions(vfs.Default)
		o.Keys = testKeys(t, n >= 2)
		o.Dir = t.TempDir()
		w := newWalk(t, 5, o, 6)
		for n := range 400 {
			w.append(40 * market.Second)
			if n%50 == 0 {
				w.commit()
			}
			if n == 200 {
				w.save()
			}
		}
		w.commit()
		if err := map[bool]func() error{true: w.s.Close, false: w.s.Abandon}[clean](); err != nil {
			t.Fatal(err)
		}
		before := contents(t, o.Dir)
		r, err := OpenReadOnly(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(o); !errors.Is(err, ErrLocked) {
			t.Errorf("the folder of a reader was opened: %v", err)
		}
		if _, err := r.Commit(); !errors.Is(err, ErrReadOnly) {
			t.Errorf("Commit of a reader: %v", err)
		}
		if err := r.Reserve(1 << 40); !errors.Is(err, ErrReadOnly) {
			t.Errorf("Reserve of a reader: %v", err)
		}
		shown, rec := histories(t, r, w.mk.ids), r.Recovery()
		checkSurvey(t, r, w, shown)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if after := contents(t, o.Dir); !reflect.DeepEqual(before, after) {
			t.Errorf("a reader changed files: %d, then %d", len(before), len(after))
		}
		w.open()
		if again := w.s.Recovery(); !reflect.DeepEqual(rec, again) || rec.Clean != clean {
			t.Errorf("recovery %+v, then %+v", rec, again)
		}
		if !reflect.DeepEqual(shown, histories(t, w.s, w.mk.ids)) {
			t.Error("a reader shows another history than the next start")
		}
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// checkSurvey wants every token that has points, and the states that were saved.
func checkSurvey(t *testing.T, r *Store, w *walk, shown []*market.HistoryPage) {
	t.Helper()
	for g := range market.NumGranularities {
		ids, err := r.TokensWith(g, 0, 1<<50)
		if err != nil || !slices.IsSorted(ids) {
			t.Fatalf("%s: %v, %v", g, ids, err)
		}
		for i, id := range w.mk.ids {
			if len(shown[i*int(market.NumGranularities)+int(g)].Points) > 0 && !slices.Contains(ids, id) {
				t.Errorf("%s: token %d has points and is not among %v", g, id, ids)
			}
		}
	}
	n := 0
	err := r.States(func(ts market.TokenState) error {
		if want := w.state.Tokens[n]; ts.ID != want.ID || string(ts.Blob) != string(want.Blob) || ts.Newest != want.Newest {
			t.Errorf("state %+v, want %+v", ts, want)
		}
		n++
		return nil
	})
	if err != nil || n != len(w.state.Tokens) {
		t.Errorf("%d of %d states, %v", n, len(w.state.Tokens), err)
	}
}

func TestReadOnlyOfNothing(t *testing.T) {
	o := testOptions(vfs.Default)
	o.Dir = filepath.Join(t.TempDir(), "data")
	absent := func(err error) {
		t.Helper()
		if !errors.Is(err, ErrAbsent) {
			t.Errorf("%v, want ErrAbsent", err)
		}
	}
	_, err := OpenReadOnly(o)
	absent(err)
	_, err = Lineages(o.Dir)
	absent(err)
	if _, err := os.Stat(o.Dir); !os.IsNotExist(err) {
		t.Errorf("the folder was made: %v", err)
	}
	for _, name := range []string{"b/MANIFEST-000001", "a/000007.sst", "a.0123.old/MANIFEST-000001", "backups/a-20260101T000000.000Z-1/BACKUP"} {
		path := filepath.Join(o.Dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := Lineages(o.Dir); err != nil || !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("lineages %v, %v", names, err)
	}
	if _, err := OpenReadOnly(Options{Dir: o.Dir, Lineage: "a"}); err == nil {
		t.Error("a folder without a list of files was opened")
	}
}
