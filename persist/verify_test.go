package persist

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

func mustVerify(t testing.TB, fs vfs.FS, dir string) *Report {
	t.Helper()
	rep, err := Verify(t.Context(), VerifyOptions{Dir: dir, FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// bytesOf returns all files of a folder.
func bytesOf(t testing.TB, fs vfs.FS, dir string) map[string]string {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, name := range names {
		f, err := fs.Open(fs.PathJoin(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		all[name] = string(data)
	}
	return all
}

// Whatever a store went through, it verifies, and verifying changes nothing.
func TestVerifySound(t *testing.T) {
	t.Parallel()
	seeds := uint64(12)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		o := testOptions(vfs.NewMem())
		if seed%3 == 0 {
			o.Retention = Retention{Ticks: 2 * market.Hour, Minute: 2 * market.Day, Five: 4 * market.Day, Hour: 8 * market.Day, Day: 64 * market.Day}
		}
		w := newWalk(t, seed, o, 6)
		steps := []market.Millis{market.Second, 20 * market.Second, market.Minute, 7 * market.Minute, 3 * market.Hour}
		for range 5 {
			step := steps[w.rng.IntN(len(steps))]
			for range 60 + w.rng.IntN(200) {
				w.append(1 + market.Millis(w.rng.Int64N(int64(2*step))))
				switch w.rng.IntN(12) {
				case 0:
					w.save()
				case 1, 2:
					w.commit()
				}
			}
			w.commit()
			end := w.s.Close
			if w.rng.IntN(2) == 0 {
				end = w.s.Abandon
			}
			if err := end(); err != nil {
				t.Fatal(err)
			}
			before := bytesOf(t, o.FS, "/data/live")
			rep := mustVerify(t, o.FS, "/data/live")
			if !rep.Sound() || rep.DurableSeq != w.model.last() || rep.Recomputed == 0 || rep.Time != w.mk.now {
				t.Fatalf("seed %d: %d faults %+v, seq %d of %d, recomputed %d", seed, rep.FaultCount, rep.Faults[:min(5, len(rep.Faults))], rep.DurableSeq, w.model.last(), rep.Recomputed)
			}
			for name, data := range bytesOf(t, o.FS, "/data/live") {
				if before[name] != data {
					t.Fatalf("seed %d: verifying changed %s", seed, name)
				}
				delete(before, name)
			}
			if len(before) > 0 {
				t.Fatalf("seed %d: verifying removed %v", seed, before)
			}
			w.open()
		}
		if rep, err := Verify(t.Context(), VerifyOptions{Dir: "/data/live", FS: o.FS}); !errors.Is(err, ErrLocked) {
			t.Fatalf("verifying a store in use: %v, %v", rep, err)
		}
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// kept returns a store that holds records of every kind, and is closed.
func kept(t testing.TB, fs vfs.FS, damage func(s *Store)) {
	t.Helper()
	o := testOptions(fs)
	w := newWalk(t, 5, o, 5)
	w.mk.dirty, w.mk.share = false, 1
	for range 40 * 6 {
		w.append(10 * market.Minute)
	}
	for range 200 {
		w.append(20 * market.Second)
	}
	w.commit()
	gone := w.mk.step(w.next, market.Second)
	gone.Removed = []market.ID{999}
	if err := errors.Join(w.s.Reserve(w.next+50), w.s.Append(gone)); err != nil {
		t.Fatal(err)
	}
	w.model.ticks, w.next = append(w.model.ticks, gone), w.next+1
	e := w.mk.export(w.model.last())
	hour := record.Floor(e.Time, market.Hour).Add(-market.Hour)
	for _, id := range w.mk.ids {
		cells := []market.Cell{{Time: hour + 1, Price: 1}, {Time: hour + 60_000, Price: 2}, {Time: hour + 400_000, Price: 3}}
		e.Hours = append(e.Hours, market.HourCells{ID: id, Hour: hour, Cells: cells})
	}
	if err := w.s.Save(e); err != nil {
		t.Fatal(err)
	}
	for range 70 {
		w.append(5 * market.Second)
	}
	w.commit()
	if err := importedName(w.s); err != nil {
		t.Fatal(err)
	}
	if damage != nil {
		damage(w.s)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}

// importedName adds a symbol as an import does.
func importedName(s *Store) error {
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }()
	if err := s.put(b, record.NameKey(7), func(dst []byte) []byte { return append(dst, "SEVEN"...) }); err != nil {
		return err
	}
	return s.apply(b, pebble.Sync)
}

// keysOf lists the keys of a kind.
func keysOf(t testing.TB, r pebble.Reader, kind byte) (keys [][]byte) {
	t.Helper()
	err := scan(r, []byte{kind}, []byte{kind + 1}, func(key, _ []byte) error {
		keys = append(keys, append([]byte{}, key...))
		return nil
	})
	if err != nil || len(keys) == 0 {
		t.Fatalf("no record of kind %c: %v", kind, err)
	}
	return keys
}

// A damaged record of any kind is reported, and so is one that is missing.
func TestVerifyFindsDamage(t *testing.T) {
	t.Parallel()
	kept(t, vfs.NewMem(), nil)
	for _, kind := range kindOrder {
		f := func(what string, damage func(s *Store, key []byte)) {
			t.Helper()
			mem := vfs.NewMem()
			var hit []byte
			kept(t, mem, func(s *Store) {
				keys := keysOf(t, s.db, kind)
				hit = keys[len(keys)/2]
				damage(s, hit)
			})
			rep := mustVerify(t, mem, "/data/live")
			if kind == record.KindMeta && string(hit[1:]) == record.MetaClean {
				return // the stop wrote it again
			}
			if rep.Sound() || what == "flipped" && !strings.Contains(fmt.Sprint(rep.Faults), fmt.Sprintf("%x", hit)) {
				t.Errorf("%s %s %x: %+v", what, kindNames[kind], hit, rep.Faults)
			}
		}
		f("flipped", func(s *Store, key []byte) { spoil(t, s, key) })
		if kind == record.KindMeta || kind == record.KindTombstone || kind == record.KindName {
			continue // one of several, of which none must be there
		}
		f("deleted", func(s *Store, key []byte) {
			if err := s.db.Delete(key, pebble.Sync); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// rewrite replaces a record by one that is whole and says something else.
func resealed(t *testing.T, s *Store, key, payload []byte) {
	t.Helper()
	value := append(record.Begin(nil), payload...)
	record.Seal(key, value)
	if err := s.db.Set(key, value, pebble.Sync); err != nil {
		t.Fatal(err)
	}
}

// What checks out by itself but not with what it was made of is reported too.
func TestVerifyRecomputes(t *testing.T) {
	t.Parallel()
	f := func(kind byte, want string, change func(rows []record.Row)) {
		t.Helper()
		mem := vfs.NewMem()
		kept(t, mem, func(s *Store) {
			key := keysOf(t, s.db, kind)[0]
			value, closer, err := s.db.Get(key)
			if err != nil {
				t.Fatal(err)
			}
			payload, err := record.Open(key, value)
			if err != nil {
				t.Fatal(err)
			}
			rows, err := record.ReadRows(nil, payload, layouts[kind].rows)
			if err := errors.Join(err, closer.Close()); err != nil {
				t.Fatal(err)
			}
			change(rows)
			resealed(t, s, key, record.AppendRows(nil, rows))
		})
		rep := mustVerify(t, mem, "/data/live")
		if rep.FaultCount == 0 || !strings.Contains(rep.Faults[0].What, want) || rep.Faults[0].Token == 0 || rep.Faults[0].Time == 0 {
			t.Errorf("%s: %+v, want %q", kindNames[kind], rep.Faults, want)
		}
	}
	volume := func(rows []record.Row) { rows[0].Volume.Close.Mant *= 3 }
	price := func(rows []record.Row) { rows[0].Price.Mean.Mant += 2 }
	f(record.KindHour, "is not volume", volume)
	f(record.KindHour, "finer ones", price)
	f(record.KindFive, "finer ones", price)
	f(record.KindDay, "finer ones", price)
	f(record.KindMonth, "its hours", price)
	f(record.KindFive, "made of no sample", func(rows []record.Row) { rows[0].Count = 0 })
	f(record.KindFive, "low", func(rows []record.Row) { rows[0].Price.Low = market.NewDecimal(9, 90) })
}

// Minutes in chunks are held against the ticks that are still there.
func TestVerifyAddsUpTicks(t *testing.T) {
	mem := vfs.NewMem()
	kept(t, mem, func(s *Store) {
		keys := keysOf(t, s.db, record.KindHour)
		key := keys[len(keys)-1]
		rows := []record.Row{}
		v := &verifier{db: s.db}
		v.get(key, func(payload []byte) { rows, _ = record.ReadRows(rows, payload, 60) })
		rows[0].Price.Mean.Mant++
		resealed(t, s, key, record.AppendRows(nil, rows[:len(rows)-1]))
	})
	rep := mustVerify(t, mem, "/data/live")
	for _, want := range []string{"is not what its ticks give", "its ticks have"} {
		if !strings.Contains(fmt.Sprint(rep.Faults), want) {
			t.Errorf("no fault %q in %+v", want, rep.Faults)
		}
	}
}

// Known holes are told, and are no fault; unknown ones are.
func TestVerifyHoles(t *testing.T) {
	w := newWalk(t, 5, testOptions(vfs.NewMem()), 3)
	for range 22 {
		w.append(market.Second)
	}
	w.commit()
	if err := w.s.Abandon(); err != nil {
		t.Fatal(err)
	}
	w.open()
	w.append(market.Second)
	w.commit()
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	rep := mustVerify(t, w.o.FS, "/data/live")
	if !rep.Sound() || len(rep.Holes) != 1 || rep.Holes[0].From != 22 {
		t.Errorf("holes %v, faults %+v", rep.Holes, rep.Faults)
	}
	w = newWalk(t, 5, testOptions(vfs.NewMem()), 3)
	w.append(market.Second)
	w.next += 5
	w.append(market.Second)
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	rep = mustVerify(t, w.o.FS, "/data/live")
	if rep.FaultCount != 1 || rep.Faults[0].From != 2 || rep.Faults[0].To != 6 || rep.DurableSeq != 1 {
		t.Errorf("seq %d, faults %+v", rep.DurableSeq, rep.Faults)
	}
}

func TestVerifyChecks(t *testing.T) {
	mem := vfs.NewMem()
	kept(t, mem, nil)
	tokens, cells := 0, 0
	bad := errors.New("does not suit")
	rep, err := Verify(t.Context(), VerifyOptions{Dir: "/data/live", FS: mem, Checks: Checks{
		Engine: func([]byte) error { return bad },
		Token: func(_ market.TokenState, c []market.Cell) error {
			tokens, cells = tokens+1, cells+len(c)
			return nil
		},
	}})
	if err != nil || rep.FaultCount != 1 || rep.Faults[0].Kind != "engine state" || tokens != 5 || cells != 15 {
		t.Errorf("%v, %d tokens, %d cells: %+v", err, tokens, cells, rep)
	}
	for dir, want := range map[string]error{"/data": ErrNoStore, "/nowhere": nil} {
		if _, err := Verify(t.Context(), VerifyOptions{Dir: dir, FS: mem}); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", dir, err, want)
		}
	}
}

// Bits flipped in a store's files: what is reported sound is right.
func TestVerifyFlippedFiles(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	kept(t, mem, nil)
	good := mustVerify(t, mem, "/data/live")
	files := bytesOf(t, mem, "/data/live")
	rng := rand.New(rand.NewPCG(3, 4))
	rounds := 12
	if testing.Short() {
		rounds = 2
	}
	silent := map[string]int{}
	for name, data := range files {
		for range rounds {
			if len(data) == 0 || name == lockFile {
				continue
			}
			at := rng.IntN(len(data))
			restore := flip(t, mem, "/data/live/"+name, data, at, byte(1)<<rng.IntN(8))
			rep := mustVerify(t, mem, "/data/live")
			restore()
			// The log's end and the list of files cannot be told from torn ones: then the store is an older one, and whole.
			if rep.Sound() && fmt.Sprint(rep.Kinds) != fmt.Sprint(good.Kinds) {
				silent[name]++
				if rep.DurableSeq > good.DurableSeq {
					t.Errorf("%s at %d: seq %d of %d", name, at, rep.DurableSeq, good.DurableSeq)
				}
			}
		}
	}
	t.Logf("older, of %d each: %v", rounds, silent)
}

func flip(t testing.TB, fs vfs.FS, name, data string, at int, bit byte) (restore func()) {
	t.Helper()
	bad := []byte(data)
	bad[at] ^= bit
	if err := writeFile(fs, name, bad); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := writeFile(fs, name, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
}

// What a mending told to be lost is no fault, though it was durable once.
func TestVerifyAfterLoss(t *testing.T) {
	w := newWalk(t, 5, testOptions(vfs.NewMem()), 3)
	for range 22 {
		w.append(market.Second)
	}
	w.commit()
	if err := w.s.Abandon(); err != nil {
		t.Fatal(err)
	}
	w.open() // from here on what follows tick 22 is lost
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	lost := mustVerify(t, w.o.FS, "/data/live").Holes[0]
	promised := func(durable uint64) *Report {
		m, _, err := openMarker(w.o.FS, "/data/live", false)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(m.write(durable, lost.To+9, false), m.close()); err != nil {
			t.Fatal(err)
		}
		return mustVerify(t, w.o.FS, "/data/live")
	}
	if rep := promised(lost.To); !rep.Sound() {
		t.Errorf("known to be lost: %+v", rep.Faults)
	}
	if rep := promised(lost.To + 1); rep.Sound() {
		t.Error("a durable tick is missing, and nothing is said")
	}
	for _, at := range []struct {
		from, to uint64
		want     bool
	}{{3, 5, false}, {4, 5, false}, {5, 6, true}, {5, 5, false}, {6, 9, false}} {
		if got := holeWithin([]LostRange{{From: 5, To: 7}}, at.from, at.to); got != at.want {
			t.Errorf("a hole within %d and %d: %v", at.from, at.to, got)
		}
	}
}
