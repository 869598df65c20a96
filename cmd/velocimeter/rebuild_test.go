package main

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/engine/tick"
	"github.com/velocimeter/velocimeter/persist"
	"github.com/velocimeter/velocimeter/persist/record"
)

// meddle changes records of a copy of a store behind its back.
func meddle(t *testing.T, data, lineage string, change func(db *pebble.DB) error) {
	t.Helper()
	db, err := pebble.Open(filepath.Join(data, lineage), &pebble.Options{FormatMajorVersion: pebble.FormatNewest, Logger: noLog{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := change(db); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// sealed puts a value into an intact envelope.
func sealedRecord(key, payload []byte) []byte {
	v := append(record.Begin(nil), payload...)
	record.Seal(key, v)
	return v
}

// each calls fn for every record of a kind.
func each(db *pebble.DB, kind byte, fn func(key, value []byte) error) error {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		if err := fn(append([]byte{}, it.Key()...), it.Value()); err != nil {
			return err
		}
	}
	return it.Close()
}

// otherVersion makes blobs that another program wrote, from byte skip on.
func otherVersion(db *pebble.DB, kind byte, only func(n int) bool) error {
	n := 0
	return each(db, kind, func(key, value []byte) error {
		payload, err := record.Open(key, value)
		if err != nil {
			return err
		}
		n++
		if !only(n) {
			return nil
		}
		payload = append([]byte{}, payload...)
		for i := range payload {
			payload[i] = 77
		}
		return db.Set(key, sealedRecord(key, payload), pebble.Sync)
	})
}

func every(int) bool { return true }

// A start whose saved state is gone, damaged, of another version or of the future
// comes back from history, with every value that can be derived.
func TestRebuiltState(t *testing.T) {
	u := runHard(t, hardSeries(t))
	data := filepath.Join(t.TempDir(), "data")
	store, err := persist.Open(persist.Options{Dir: data, Lineage: "hard"})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Reserve(5000); err != nil {
		t.Fatal(err)
	}
	var copies []string
	u.run(func(tk *market.Tick, m *tick.Machine) {
		if err := store.Append(tk); err != nil {
			t.Fatal(err)
		}
		if tk.Env.Seq%40 == 0 {
			if err := store.Save(m.Export()); err != nil {
				t.Fatal(err)
			}
		}
		if tk.Env.Seq%100 == 73 {
			if _, err := store.Commit(); err != nil {
				t.Fatal(err)
			}
			copies = append(copies, copyStore(t, data))
		}
	})
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	stateKinds := []byte{record.KindState, record.KindEngine}
	for name, change := range map[string]func(db *pebble.DB) error{
		"gone": func(db *pebble.DB) error {
			for _, kind := range stateKinds {
				if err := db.DeleteRange([]byte{kind}, []byte{kind + 1}, pebble.Sync); err != nil {
					return err
				}
			}
			return db.Delete(record.MetaKey(record.MetaState), pebble.Sync)
		},
		"without tokens": func(db *pebble.DB) error {
			return db.DeleteRange([]byte{record.KindState}, []byte{record.KindState + 1}, pebble.Sync)
		},
		"without engine": func(db *pebble.DB) error { return db.Delete([]byte{record.KindEngine}, pebble.Sync) },
		"of another version": func(db *pebble.DB) error {
			for _, kind := range stateKinds {
				if err := otherVersion(db, kind, every); err != nil {
					return err
				}
			}
			return nil
		},
		"of one token of another version": func(db *pebble.DB) error {
			return otherVersion(db, record.KindState, func(n int) bool { return n == 3 })
		},
		"damaged": func(db *pebble.DB) error {
			n := 0
			return each(db, record.KindState, func(key, value []byte) error {
				if n++; n%2 == 0 {
					return nil
				}
				bad := append([]byte{}, value...)
				bad[len(bad)-1] ^= 1
				return db.Set(key, bad, pebble.Sync)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, from := range copies {
				rebuilt(t, u, copyStore(t, from), change)
			}
		})
	}
}

// rebuilt starts from a store without (all of) its state, then once more.
func rebuilt(t *testing.T, u *uninterrupted, data string, change func(*pebble.DB) error) {
	t.Helper()
	meddle(t, data, "hard", change)
	var log lockedBuffer
	store, err := persist.Open(persist.Options{Dir: data, Lineage: "hard", Logger: testLogger(&log)})
	if err != nil {
		t.Fatal(err)
	}
	m, _, err := restoreMachine(store, 4, quality.DefaultConfig(), testLogger(&log))
	if err != nil {
		t.Fatal(err)
	}
	rec := store.Recovery()
	want := u.boards[rec.DurableSeq]
	got := m.Engine.Board()
	if rec.Rebuilt == nil && !rec.StateDamaged && want.Seq < 100 {
		_ = store.Close()
		return // every tick there ever was is kept
	}
	if rec.Rebuilt == nil || rec.Anew < rec.DurableSeq || !strings.Contains(log.String(), "state was rebuilt") || got.Seq != want.Seq || got.Time != want.Time {
		t.Fatalf("rebuilt %+v, anew %d of %d; board %d at %d, want %d at %d\n%s", rec.Rebuilt, rec.Anew, rec.DurableSeq, got.Seq, got.Time, want.Seq, want.Time, log.String())
	}
	missing := 0
	for w := range want.All {
		g := got.Token(w.ID)
		if g == nil {
			missing++
			continue
		}
		compareRebuilt(t, fmt.Sprintf("tick %d", want.Seq), g, w)
	}
	if missing > rec.Rebuilt.Waiting {
		t.Errorf("tick %d: %d of %d tokens are missing, %d wait", want.Seq, missing, want.Len(), rec.Rebuilt.Waiting)
	}
	for g := range got.All {
		if want.Token(g.ID) == nil {
			t.Errorf("tick %d: token %d is gone and came back", want.Seq, g.ID)
		}
	}
	again(t, u, data, store, m, &rec)
}

// compareRebuilt wants what a quote says to be right; what rests on samples may
// lack precision, and what rests on what nobody remembers may be empty.
func compareRebuilt(t *testing.T, what string, got, want *market.Snapshot) {
	t.Helper()
	derived := market.Mask(0)
	for p := range market.NumPeriods {
		derived |= market.MaskOf(p.Change(), p.Slope(), p.Coverage(), p.Direction())
	}
	derived |= market.MaskOf(market.FieldVWAP1h, market.FieldVWAP24h, market.FieldVWAP7d, market.FieldVolatility24h)
	for f := market.Field(1); f <= market.NumNumeric; f++ {
		g, w := got.Value(f), want.Value(f)
		switch {
		case g == w:
		case f == market.FieldFlags: // quality rules begin anew: flags of what was before may be missing
		case f == market.FieldVolatility24h:
		case derived.Has(f) && (g.IsNull() || w.IsNull() || math.Abs(g.Float()-w.Float()) <= 0.02*math.Abs(w.Float())+1e-3):
		default:
			t.Errorf("%s, token %d: %v is %v, want %v", what, want.ID, f, g, w)
		}
	}
	if *got.Info != *want.Info && *got.Info != (market.Info{}) {
		t.Errorf("%s, token %d: %v, want %v", what, want.ID, got.Info, want.Info)
	}
}

// again goes on with what was rebuilt, saves it, and starts once more: the state
// is whole then, and positions of before stay unusable.
func again(t *testing.T, u *uninterrupted, data string, store *persist.Store, m *tick.Machine, rec *persist.Recovery) {
	t.Helper()
	if err := store.Reserve(rec.NextSeq + 1000); err != nil {
		t.Fatal(err)
	}
	rest := u.polls[rec.Position:]
	for _, b := range rest[:min(len(rest), 20)] {
		m.Poll(b, b.ReceivedAt, func(tk *market.Tick) {
			if err := store.Append(tk); err != nil {
				t.Fatal(err)
			}
		})
	}
	if err := store.Save(m.Export()); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	r := reopen(t, data, "hard")
	if r.rec.StateDamaged || r.rec.Anew != rec.Anew || r.rec.Rebuilt != nil || !r.rec.Clean {
		t.Errorf("the start after: %+v", r.rec)
	}
	compareBoards(t, r.machine.Engine.Board(), m.Engine.Board(), &count{})
}

type noLog struct{}

func (noLog) Infof(string, ...any)  {}
func (noLog) Errorf(string, ...any) {}
func (noLog) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}
