package persist

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/sealed"
)

// filled returns a closed store on the machine's disk with tables, logs and a state.
func filled(t *testing.T, keys *sealed.Keys) *walk {
	t.Helper()
	o := testOptions(vfs.Default)
	o.Dir, o.Keys = t.TempDir(), keys
	w := newWalk(t, 5, o, 6)
	for n := range 500 {
		w.append(5 * market.Minute)
		switch {
		case n%50 == 0:
			w.commit()
		case n%170 == 0:
			w.save()
		}
	}
	w.commit()
	if err := w.s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	w.append(market.Minute)
	w.commit()
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestWrongKeys opens stores with what is not theirs: an error that says what to do,
// and no file changed.
func TestWrongKeys(t *testing.T) {
	a, b := sealed.NewKey(), sealed.NewKey()
	f := func(with, opened string, words ...string) {
		t.Helper()
		var keys *sealed.Keys
		if with != "" {
			keys = parseKeys(t, with)
		}
		w := filled(t, keys)
		before := contents(t, w.o.Dir)
		if w.o.Keys = nil; opened != "" {
			w.o.Keys = parseKeys(t, opened)
		}
		for _, open := range []func(Options) (*Store, error){Open, OpenReadOnly} {
			s, err := open(w.o)
			if s != nil || !errors.Is(err, ErrKey) {
				t.Errorf("opened: %v", err)
			}
			for _, word := range words {
				if !strings.Contains(fmt.Sprint(err), word) {
					t.Errorf("%v does not say %q", err, word)
				}
			}
			if strings.Contains(fmt.Sprint(err), a) || strings.Contains(fmt.Sprint(err), b) {
				t.Errorf("the error tells a key")
			}
		}
		if after := contents(t, w.o.Dir); !reflect.DeepEqual(before, after) {
			t.Error("files were changed")
		}
	}
	f(a, b, parseKeys(t, a).IDs()[0], parseKeys(t, b).IDs()[0], "further line")
	f(a, "", parseKeys(t, a).IDs()[0], "store.key_file", "VELOCIMETER_STORE_KEY")
	f("", a, "not encrypted", "plain")
}

// TestRotation changes the key while the store is at work, and takes the old one away
// when no file needs it: also from plain files and back to them.
func TestRotation(t *testing.T) {
	t.Parallel()
	a, b := sealed.NewKey(), sealed.NewKey()
	f := func(from, both, to string) {
		t.Helper()
		keysOf := func(text string) *sealed.Keys {
			if text == "" {
				return nil
			}
			return parseKeys(t, text)
		}
		w := filled(t, keysOf(from))
		w.o.Keys = keysOf(from)
		w.open()
		want := histories(t, w.s, w.mk.ids)
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
		w.o.Keys = keysOf(both)
		w.open()
		if st := w.s.Stats(); st.OldKeyFiles == 0 || st.OldKeyBytes == 0 {
			t.Errorf("%d files, %d bytes need the old key", st.OldKeyFiles, st.OldKeyBytes)
		}
		select {
		case <-w.s.rotate.done:
		case <-time.After(time.Minute):
			t.Fatalf("still %d files", w.s.Stats().OldKeyFiles)
		}
		if st := w.s.Stats(); st.OldKeyFiles != 0 || st.OldKeyBytes != 0 {
			t.Errorf("still %d files, %d bytes", st.OldKeyFiles, st.OldKeyBytes)
		}
		if err := w.s.Abandon(); err != nil { // as a crash would
			t.Fatal(err)
		}
		toldWhenRotated(w)
		w.o.Keys = keysOf(to)
		w.open()
		defer func() { _ = w.s.Close() }()
		if rec := w.s.Recovery(); len(rec.Damage) != 0 || rec.DurableSeq != w.model.last() {
			t.Errorf("recovered %+v", rec)
		}
		got := histories(t, w.s, w.mk.ids)
		for i := range want {
			if !reflect.DeepEqual(want[i].Points, got[i].Points) {
				t.Errorf("page %d: %d points, then %d", i, len(want[i].Points), len(got[i].Points))
			}
		}
	}
	f(a, b+"\n"+a, b)
	f("", a+"\nplain", a)
	f(a, "plain\n"+a, "")
}

// toldWhenRotated starts a store whose files all have the new key: that is told
// again, the process that ended may not have come to it.
func toldWhenRotated(w *walk) {
	w.t.Helper()
	var log bytes.Buffer
	w.o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	w.open()
	if r := w.s.rotate; r != nil {
		<-r.done
	}
	if err := w.s.Abandon(); err != nil {
		w.t.Fatal(err)
	}
	if !strings.Contains(log.String(), "no file needs an old key any more") {
		w.t.Errorf("it is not said that the rotation is over: %s", log.String())
	}
	w.o.Logger = nil
}

// TestRotationStops closes a store in the middle.
func TestRotationStops(t *testing.T) {
	a, b := sealed.NewKey(), sealed.NewKey()
	w := filled(t, parseKeys(t, a))
	w.o.Keys = parseKeys(t, b+"\n"+a)
	for range 5 {
		w.open()
		if rec := w.s.Recovery(); len(rec.Damage) != 0 || rec.DurableSeq != w.model.last() {
			t.Fatalf("recovered %+v", rec)
		}
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Nothing that a store knows can be read in its files.
func TestNothingReadable(t *testing.T) {
	readable := func(keys *sealed.Keys) (found []string) {
		w := filled(t, keys)
		err := filepath.WalkDir(w.o.Dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			for _, word := range []string{"Token ", "token-", "engine", "epoch", "reserved", "leveldb", "Options", "comparer"} {
				if bytes.Contains(data, []byte(word)) {
					found = append(found, word)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if found := readable(testKeys(t, true)); found != nil {
		t.Errorf("an encrypted store shows %q", found)
	}
	if found := readable(nil); len(found) < 5 {
		t.Errorf("the test sees too little: %q", found)
	}
}

// A copy made while the store is at work opens with its keys.
func TestCheckpointOfEncrypted(t *testing.T) {
	mem := vfs.NewMem()
	o := testOptions(mem)
	o.Keys = testKeys(t, true)
	w := newWalk(t, 5, o, 6)
	defer func() { _ = w.s.Close() }()
	for range 200 {
		w.append(market.Minute)
	}
	w.commit()
	if err := mem.MkdirAll("/copy", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := w.s.db.Checkpoint("/copy/live"); err != nil {
		t.Fatal(err)
	}
	o.Dir = "/copy"
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	if rec := s.Recovery(); rec.DurableSeq != w.model.last() || len(rec.Damage) != 0 {
		t.Errorf("the copy holds %+v", rec)
	}
	if !reflect.DeepEqual(histories(t, w.s, w.mk.ids), histories(t, s, w.mk.ids)) {
		t.Error("the copy has another history")
	}
}

// A fresh lineage may have another key than the one that it replaces.
func TestFreshWithAnotherKey(t *testing.T) {
	w := filled(t, testKeys(t, true))
	w.o.Fresh, w.o.Keys = true, testKeys(t, true)
	w.open()
	defer func() { _ = w.s.Close() }()
	if names, err := filepath.Glob(filepath.Join(w.o.Dir, "live.unknown.old", "MARK")); err != nil || len(names) != 1 {
		t.Errorf("%q, %v", names, err)
	}
}

// A backup of an encrypted store is encrypted too: with its keys it verifies and is
// restored, also under a newer one, without them it is not.
func TestEncryptedBackup(t *testing.T) {
	old, young := sealed.NewKey(), sealed.NewKey()
	o := testOptions(vfs.NewMem())
	o.Keys = parseKeys(t, old)
	w := newWalk(t, 6, o, 6)
	for range 300 {
		w.append(2 * market.Minute)
	}
	w.save()
	w.append(market.Minute)
	w.commit()
	online := mustBackup(t, w.s)
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	offline, err := BackupLineage(t.Context(), w.o, "/backups", Checks{})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []*Backup{online, offline} {
		for name, data := range bytesOf(t, w.o.FS, b.Dir) {
			if storeFile.MatchString(name) && !strings.HasPrefix(name, "marker.") && !strings.Contains(data[:min(len(data), 16)], "vmseal") {
				t.Errorf("%s is not encrypted", name)
			}
		}
		verify := func(keys *sealed.Keys, sound bool) {
			t.Helper()
			rep, err := Verify(t.Context(), VerifyOptions{Dir: b.Dir, FS: w.o.FS, Keys: keys})
			if sound && (err != nil || !rep.Sound() || rep.DurableSeq != 301) || !sound && !errors.Is(err, ErrKey) {
				t.Errorf("%+v, %v", rep, err)
			}
		}
		verify(nil, false)
		verify(parseKeys(t, young), false)
		verify(parseKeys(t, old), true)
		verify(parseKeys(t, young+"\n"+old), true)
		o := w.o
		o.Keys = nil
		if r, err := Restore(t.Context(), b.Dir, o, Checks{}); !errors.Is(err, ErrKey) {
			t.Errorf("restored %+v, %v", r, err)
		}
		o.Keys, o.Fresh = parseKeys(t, young+"\n"+old), true
		r, err := Restore(t.Context(), b.Dir, o, Checks{})
		if err != nil {
			t.Fatal(err)
		}
		o.Fresh = false
		s := mustOpen(t, o)
		if rec := s.Recovery(); rec.Epoch != r.Epoch || rec.DurableSeq != 301 || !rec.Clean {
			t.Errorf("recovered %+v", rec)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		w.o.Keys = o.Keys
	}
}
