package persist

import (
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
)

// What is read block by block and record by record is what pebble reads.
func TestRawFiles(t *testing.T) {
	mem := vfs.NewMem()
	w := newWalk(t, 3, testOptions(mem), 8)
	for i := range 900 {
		w.append(20 * market.Second)
		if i%100 == 99 {
			w.save()
		}
		if i == 300 || i == 600 {
			if err := w.s.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.commit()
	want := map[string]string{}
	if err := scan(w.s.db, []byte{0}, []byte{255}, func(key, value []byte) error {
		want[string(key)] = string(value)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	dir := mem.PathJoin(w.o.Dir, w.o.Lineage)
	names, err := mem.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, tables, logs := map[string]bool{}, 0, 0
	take := func(key, value []byte) error {
		if value != nil && want[string(key)] == string(value) {
			got[string(key)] = true
		}
		return nil
	}
	for _, name := range names {
		f, err := openRaw(mem, mem.PathJoin(dir, name))
		if err != nil {
			t.Fatal(name, err)
		}
		defer f.close()
		switch {
		case strings.HasSuffix(name, ".sst"):
			tables++
			hits, _, err := newTableReader().read(f, take)
			if err != nil || len(hits) != 0 {
				t.Errorf("%s: %v, %v", name, hits, err)
			}
		case strings.HasSuffix(name, ".log"):
			logs++
			rest, err := readRecords(f, func(record []byte, broken bool) error {
				if broken {
					t.Errorf("%s is broken", name)
				}
				return readBatch(record, take)
			})
			if err != nil || rest {
				t.Errorf("%s: %v, %v", name, rest, err)
			}
		}
	}
	if len(got) != len(want) || tables == 0 || logs == 0 {
		t.Errorf("%d of %d values from %d tables and %d logs", len(got), len(want), tables, logs)
	}
}
