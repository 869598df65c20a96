package persist

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
)

var (
	flips = flag.Int("flips", 60, "bits that TestBitFlips flips, one at a time, half of them in an encrypted store")
	cuts  = flag.Int("cuts", 20, "seeds of TestPowerCut, five power cuts each")
)

// picture is all that a store says.
type picture struct {
	rec     Recovery
	tokens  map[market.ID]string
	journal []string
	points  map[string]market.Point // by granularity, token and time
	gaps    map[string][]market.Gap
	failed  []error // reads that said so
}

// look reads everything once.
func look(s *Store, ids []market.ID, to market.Time) *picture {
	p := &picture{rec: s.Recovery(), tokens: map[market.ID]string{}, points: map[string]market.Point{}, gaps: map[string][]market.Gap{}}
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
			p.gaps[name] = page.Gaps
			for _, x := range page.Points {
				p.points[fmt.Sprint(name, " ", int64(x.Time))] = x
			}
		}
	}
	return p
}

// against says what is wrong with a picture of damaged files that does not own up
// to it, "" for nothing. true must be a picture of the same files undamaged.
func (p *picture) against(truth *picture) string {
	told := len(p.rec.Damage) > 0
	for name, x := range p.points {
		if g, _ := market.ParseGranularity(name[:strings.IndexByte(name, ' ')]); told && x.Time.Add(g.Width()) > p.rec.Time {
			continue // the point lacks ticks that are said to be lost
		}
		if want, ok := truth.points[name]; !ok && !told || ok && want != x { // what was dropped as old may show again
			return fmt.Sprintf("%s is\n%+v, not\n%+v", name, x, want)
		}
	}
	for id, blob := range p.tokens {
		if !told && len(p.failed) == 0 && truth.tokens[id] != blob {
			return fmt.Sprintf("token %d is another", id)
		}
	}
	if p.rec.Epoch != truth.rec.Epoch || p.rec.NextSeq < truth.rec.NextSeq {
		return fmt.Sprintf("epoch %s, next seq %d, not %s and %d", p.rec.Epoch, p.rec.NextSeq, truth.rec.Epoch, truth.rec.NextSeq)
	}
	if len(p.failed) > 0 || len(p.rec.Damage) > 0 {
		return ""
	}
	for _, same := range []struct {
		what string
		ok   bool
	}{
		{"number of points", len(p.points) == len(truth.points)},
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

// TestBitFlips flips one bit of any file of a closed or killed store: it is found
// out, or changes nothing that is read.
func TestBitFlips(t *testing.T) {
	for n := range 4 {
		killed, keys := n%2 == 1, testKeys(t, n >= 2)
		rng := rand.New(rand.NewPCG(11, 1))
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
			if i == 250 {
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
		truth := openLook(t, w, base.CrashClone(vfs.CrashCloneCfg{}))
		if len(truth.failed) > 0 || len(truth.rec.Damage) > 0 {
			t.Fatalf("undamaged: %v %v", truth.failed, truth.rec.Damage)
		}
		files := filesOf(t, base, w.o.Dir)
		found := map[string]int{}
		n := *flips / 4
		if testing.Short() {
			n = min(n, 8)
		}
		for n := range n {
			flipOne(t, w, base, files, truth, rng, found, fmt.Sprintf("killed %v, %v, flip %d", killed, keys.IDs(), n))
		}
		t.Logf("killed %v, %v: %v of %d files", killed, keys.IDs(), found, len(files))
	}
}

// flipOne damages a copy and compares.
func flipOne(t *testing.T, w *walk, base *vfs.MemFS, files []string, truth *picture, rng *rand.Rand, found map[string]int, what string) {
	t.Helper()
	mem := base.CrashClone(vfs.CrashCloneCfg{})
	name := files[rng.IntN(len(files))]
	bit := flipBit(t, mem, name, rng)
	o := w.o
	o.FS = mem
	s, err := Open(o)
	if err != nil {
		found["refused"]++
		return
	}
	defer func() { _ = s.Close() }()
	p := look(s, w.mk.ids, w.mk.now.Add(market.Day))
	if wrong := p.against(truth); wrong != "" {
		t.Errorf("%s: bit %d of %s: %s", what, bit, name, wrong)
	}
	switch {
	case len(p.rec.Damage) > 0:
		found["told at start"]++
	case len(p.failed) > 0:
		found["told when read"]++
	default:
		found["harmless"]++
	}
}

func openLook(t *testing.T, w *walk, mem *vfs.MemFS) *picture {
	t.Helper()
	o := w.o
	o.FS = mem
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	return look(s, w.mk.ids, w.mk.now.Add(market.Day))
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
		case info.Size() > 0 && !strings.HasSuffix(name, lockFile):
			files = append(files, path)
		}
	}
	return files
}

func flipBit(t *testing.T, mem *vfs.MemFS, name string, rng *rand.Rand) (bit int) {
	t.Helper()
	f, err := mem.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	bit = rng.IntN(8 * len(b))
	b[bit/8] ^= 1 << (bit % 8)
	out, err := mem.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = out.Write(b); errors.Join(err, out.Sync(), out.Close()) != nil {
		t.Fatal(err)
	}
	return bit
}
