package persist

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
	"github.com/velocimeter/velocimeter/persist/sealed"
)

var (
	flips    = flag.Int("flips", 60, "files that TestBitFlips damages, one at a time")
	flipSeed = flag.Uint64("flip-seed", 1, "seed of the first of them")
	everyNth = flag.Int("nth", 37, "of the operations that TestMendFailsAnywhere fails")
	cuts     = flag.Int("cuts", 20, "seeds of TestPowerCut, five power cuts each")
)

// picture is all that a store says.
type picture struct {
	rec     Recovery
	tokens  map[market.ID]string
	journal []string
	points  map[string]market.Point // by granularity, token and time
	gaps    map[string][]market.Gap
	lost    map[string][]market.Gap
	failed  []error // reads that said so
	records map[string]string
	vague   bool // the manifest and a table may be gone
}

// look reads everything once.
func look(s *Store, ids []market.ID, to market.Time) *picture {
	p := &picture{rec: s.Recovery(), tokens: map[market.ID]string{}, points: map[string]market.Point{}, gaps: map[string][]market.Gap{}, lost: map[string][]market.Gap{}}
	note := func(err error) {
		if err != nil {
			p.failed = append(p.failed, err)
		}
	}
	note(s.Tokens(1, func(ts market.TokenState, cells []market.Cell) error {
		p.tokens[ts.ID] = fmt.Sprintf("%d %x %v", ts.Newest, ts.Blob, cells)
		return nil
	}))
	note(s.Journal(func(jt *market.JournalTick) error {
		line := fmt.Sprintf("%+v %v %v", jt.Env, jt.Kind, jt.Removed)
		for _, r := range jt.Rows {
			line += fmt.Sprintf("; %d %d", r.ID, r.Mask)
			if r.Quote != nil {
				q := *r.Quote
				q.Info = nil
				line += fmt.Sprintf(" %+v", q)
			}
		}
		p.journal = append(p.journal, line)
		return nil
	}))
	for _, id := range ids {
		for g := range market.NumGranularities {
			page, err := s.History(context.Background(), market.HistoryQuery{ID: id, To: to, Granularity: g, Limit: 100_000})
			if err != nil {
				note(err)
				continue
			}
			name := fmt.Sprint(g, " ", id)
			p.gaps[name], p.lost[name] = page.Gaps, page.Lost
			for _, x := range page.Points {
				p.points[fmt.Sprint(name, " ", int64(x.Time))] = x
			}
		}
	}
	return p
}

// excused reports whether a point is in a part of history that is said to be lost.
func (p *picture) excused(name string) bool {
	if p.rec.Mended == nil {
		return false
	}
	var text string
	var id market.ID
	var at int64
	if _, err := fmt.Sscan(name, &text, &id, &at); err != nil {
		panic(err)
	}
	g, _ := market.ParseGranularity(text)
	x := Loss{FirstToken: id, LastToken: id, From: market.Time(at), To: market.Time(at).Add(max(g.Width(), 1))}
	if !slices.ContainsFunc(p.lost[fmt.Sprint(g, " ", id)], func(l market.Gap) bool { return l.From < x.To && x.From < l.To }) {
		return false // the answer itself does not say so
	}
	return slices.ContainsFunc(p.rec.Mended.Lost, func(l Loss) bool {
		return (l.Kind != "unknown" || p.vague) && l.concerns(g) && l.overlaps(&x)
	})
}

// against says what is wrong with a picture of files that were damaged, "" for
// nothing: every row is right, or in a part that is said to be lost. truth must be
// a picture of the same files undamaged.
func (p *picture) against(truth *picture) string {
	told := len(p.rec.Damage) > 0 || p.rec.Mended != nil
	if len(p.failed) > 0 {
		return fmt.Sprintf("reads fail: %v", p.failed[0])
	}
	for name, x := range p.points {
		if want, ok := truth.points[name]; (!ok && !told || ok && want != x) && !p.excused(name) { // what was dropped as old may show again
			return fmt.Sprintf("%s is\n%+v, not\n%+v", name, x, want)
		}
	}
	for name := range truth.points {
		if _, ok := p.points[name]; !ok && !p.excused(name) {
			return fmt.Sprintf("%s is missing", name)
		}
	}
	for id, blob := range truth.tokens {
		if got, ok := p.tokens[id]; got != blob && (ok || !p.rec.StateDamaged) && p.lacks("window") == p.lacks("state") && !p.lacks("state") {
			return fmt.Sprintf("token %d is another, or gone in silence", id)
		}
	}
	newEpoch := p.rec.Mended != nil && p.rec.Mended.NewEpoch
	if !newEpoch && (p.rec.Epoch != truth.rec.Epoch || p.rec.NextSeq < truth.rec.NextSeq) { // in a new epoch seqs may be what they were
		return fmt.Sprintf("epoch %s, next seq %d, not %s and %d", p.rec.Epoch, p.rec.NextSeq, truth.rec.Epoch, truth.rec.NextSeq)
	}
	if told {
		return ""
	}
	for _, same := range []struct {
		what string
		ok   bool
	}{
		{"gaps", reflect.DeepEqual(p.gaps, truth.gaps)},
		{"tokens", len(p.tokens) == len(truth.tokens)},
		{"journal", reflect.DeepEqual(p.journal, truth.journal)},
		{"engine", string(p.rec.Engine) == string(truth.rec.Engine)},
		{"retirements", reflect.DeepEqual(p.rec.Tombstones, truth.rec.Tombstones)},
		{"positions", p.rec.DurableSeq == truth.rec.DurableSeq && p.rec.StateSeq == truth.rec.StateSeq && p.rec.Position == truth.rec.Position},
	} {
		if !same.ok {
			return same.what + " differ in silence"
		}
	}
	return ""
}

func (p *picture) lacks(kind string) bool {
	return p.rec.Mended != nil && slices.ContainsFunc(p.rec.Mended.Lost, func(l Loss) bool { return l.Kind == kind || l.Kind == "all" })
}

// records are the values of a store that are written once.
func records(t *testing.T, s *Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, kind := range []byte{record.KindHour, record.KindFive, record.KindDay, record.KindMonth, record.KindJournal} {
		err := scan(s.db, []byte{kind}, []byte{kind + 1}, func(key, value []byte) error {
			all[string(key)] = string(value)
			return nil
		})
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	}
	return all
}

// TestBitFlips damages any file of a closed or killed store: it opens, and all
// that it shows is right or told to be lost.
func TestBitFlips(t *testing.T) {
	t.Parallel()
	for n := range 4 {
		killed, keys := n%2 == 1, testKeys(t, n >= 2)
		base, w := flipBase(t, killed, keys)
		truth := openLook(t, w, base.CrashClone(vfs.CrashCloneCfg{}))
		if len(truth.failed) > 0 || len(truth.rec.Damage) > 0 || truth.rec.Mended != nil {
			t.Fatalf("undamaged: %v %v", truth.failed, truth.rec.Damage)
		}
		files := filesOf(t, base, w.o.Dir)
		f := flipper{t: t, w: w, base: base, files: files, truth: truth, found: map[string]int{}}
		n := *flips / 4
		if testing.Short() {
			n = min(n, 4)
		}
		for n := range n {
			f.one(*flipSeed+uint64(n), killed)
		}
		t.Logf("killed %v, keys %v: %v of %d files; %d of %d records outside of the damaged blocks recovered", killed, keys.IDs(), f.found, len(files), f.kept, f.all)
		if f.all > 0 && float64(f.kept) < 0.99*float64(f.all) {
			t.Error("too few records were recovered")
		}
	}
}

// flipBase makes a store with tables, logs, states and chunks.
func flipBase(t *testing.T, killed bool, keys *sealed.Keys) (*vfs.MemFS, *walk) {
	t.Helper()
	mem := vfs.NewCrashableMem()
	o := testOptions(mem)
	o.Keys = keys
	w := newWalk(t, 7, o, 6)
	for i := range 400 {
		w.append([]market.Millis{market.Second, market.Minute, 7 * market.Minute}[i/50%3])
		switch {
		case i%97 == 0:
			w.save()
		case i%7 == 0:
			w.commit()
		}
		if i == 150 || i == 250 {
			if err := w.s.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.commit()
	if !killed {
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	base := mem.CrashClone(vfs.CrashCloneCfg{})
	if killed {
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return base, w
}

// flipper damages copies of a store and compares.
type flipper struct {
	t         *testing.T
	w         *walk
	base      *vfs.MemFS
	files     []string
	truth     *picture
	found     map[string]int
	kept, all int
}

// one damages a copy, opens it until nothing fails any more, and compares.
func (f *flipper) one(seed uint64, killed bool) {
	t := f.t
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	mem := f.base.CrashClone(vfs.CrashCloneCfg{})
	what, block := mutate(t, mem, f.files, rng)
	what = fmt.Sprintf("killed %v, keys %v, -flip-seed %d -flips 4: %s", killed, f.w.o.Keys.IDs(), seed, what)
	o := f.w.o
	o.FS = mem
	var p *picture
	how := "harmless"
	for start := range 3 {
		s, err := Open(o)
		if err != nil {
			t.Errorf("%s: start %d: %v", what, start, err)
			return
		}
		p = look(s, f.w.mk.ids, f.w.mk.now.Add(market.Day))
		after := records(t, s)
		if err := s.Close(); err != nil {
			t.Errorf("%s: close: %v", what, err)
		}
		if len(p.failed) > 0 {
			if start == 2 {
				t.Errorf("%s: reads fail again and again: %v", what, p.failed[0])
				return
			}
			how = "told when read, then "
			continue
		}
		if p.rec.Mended != nil && block > 0 {
			f.count(after, block, what)
		}
		break
	}
	switch {
	case p.rec.Mended != nil && p.rec.Mended.Failed != "":
		t.Errorf("%s: %s", what, p.rec.Mended.Failed)
	case p.rec.Mended != nil:
		how = strings.TrimSuffix(how, "harmless") + "mended"
	case len(p.rec.Damage) > 0:
		how = "told at start"
	}
	f.found[how]++
	if wrong := p.against(f.truth); wrong != "" {
		t.Errorf("%s, %s: %s\n%+v", what, how, wrong, p.rec.Mended)
	}
}

// count compares the records of a mended store with those there were: no more may
// be gone than a block holds.
func (f *flipper) count(after map[string]string, block int, what string) {
	gone, size := 0, 0
	for key, value := range f.truth.records {
		if after[key] != value { // gone, or made of what is left: which is compared row by row
			gone, size = gone+1, size+len(key)+len(value)
		}
	}
	f.all += len(f.truth.records)
	f.kept += len(f.truth.records)
	if size > block+4<<10 {
		f.t.Logf("%s: %d records of %d bytes are gone", what, gone, size)
		f.kept -= gone
	}
}

func openLook(t *testing.T, w *walk, mem *vfs.MemFS) *picture {
	t.Helper()
	o := w.o
	o.FS = mem
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	p := look(s, w.mk.ids, w.mk.now.Add(market.Day))
	p.records = records(t, s)
	return p
}

func filesOf(t *testing.T, mem *vfs.MemFS, dir string) (files []string) {
	t.Helper()
	names, err := mem.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path := mem.PathJoin(dir, name)
		info, err := mem.Stat(path)
		switch {
		case err != nil:
			t.Fatal(err)
		case info.IsDir():
			files = append(files, filesOf(t, mem, path)...)
		case !strings.HasSuffix(name, lockFile):
			files = append(files, path)
		}
	}
	return files
}

// mutate damages one of the files and says how; block is how much of it, 0 for all.
func mutate(t *testing.T, mem *vfs.MemFS, files []string, rng *rand.Rand) (what string, block int) {
	t.Helper()
	name := files[rng.IntN(len(files))]
	b := contentsOf(t, mem, name)
	at := rng.IntN(max(len(b), 1))
	switch how := rng.IntN(12); {
	case how == 0:
		if err := mem.Remove(name); err != nil {
			t.Fatal(err)
		}
		return name + " is missing", 0
	case how == 1:
		rewrite(t, mem, name, nil)
		return name + " is empty", 0
	case how == 2:
		rewrite(t, mem, name, b[:at])
		return fmt.Sprintf("%s ends at %d of %d", name, at, len(b)), 0
	case how == 3:
		other := files[rng.IntN(len(files))]
		rewrite(t, mem, name, contentsOf(t, mem, other))
		rewrite(t, mem, other, b)
		return name + " and " + other + " are swapped", 0
	case how < 6 && len(b) > 0:
		from, to := at/512*512, min(at/512*512+512, len(b))
		clear(b[from:to])
		rewrite(t, mem, name, b)
		return fmt.Sprintf("%s is zero from %d to %d of %d", name, from, to, len(b)), 2 * blockBytes
	case len(b) > 0:
		bit := rng.IntN(8 * len(b))
		b[bit/8] ^= 1 << (bit % 8)
		rewrite(t, mem, name, b)
		return fmt.Sprintf("bit %d of %s, of %d bytes", bit, name, len(b)), blockBytes
	}
	return "nothing", 0
}

func contentsOf(t *testing.T, mem *vfs.MemFS, name string) []byte {
	t.Helper()
	f, err := mem.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

func rewrite(t *testing.T, mem *vfs.MemFS, name string, b []byte) {
	t.Helper()
	out, err := mem.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = out.Write(bytes.Clone(b)); errors.Join(err, out.Sync(), out.Close()) != nil {
		t.Fatal(err)
	}
}
