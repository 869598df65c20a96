package persist

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
)

// fileKinds are the files of a store by what they are for.
var fileKinds = map[string]func(name string) bool{
	"manifest": func(name string) bool { return strings.HasPrefix(name, manifestPrefix) },
	"marker":   func(name string) bool { return strings.HasPrefix(name, markerPrefix) },
	"log":      func(name string) bool { return strings.HasSuffix(name, ".log") },
	"table":    func(name string) bool { return strings.HasSuffix(name, ".sst") },
	"mark":     func(name string) bool { return name == markFile },
	"options":  func(name string) bool { return strings.HasPrefix(name, "OPTIONS-") },
}

// TestMendPairs takes away, empties, cuts and hits files of two kinds, one of each or
// all: what is then shown is right or told to be lost, in memory and on disk.
func TestMendPairs(t *testing.T) {
	t.Parallel()
	n := *flips
	if testing.Short() {
		n = min(n, 12)
	}
	for base := range 4 {
		killed, keys := base%2 == 1, testKeys(t, base >= 2)
		mem, w := flipBase(t, killed, keys)
		truth := openLook(t, w, mem.CrashClone(vfs.CrashCloneCfg{}))
		found := map[string]int{}
		for i := range n / 4 {
			seed := *flipSeed + uint64(i)
			p := pairs{t: t, w: w, truth: truth, rng: rand.New(rand.NewPCG(seed, uint64(10+base)))}
			p.name = fmt.Sprintf("base %d, keys %v, -flip-seed %d -flips 4", base, keys.IDs(), seed)
			how := p.one(mem.CrashClone(vfs.CrashCloneCfg{}), i%8 == 7)
			found[how]++
		}
		t.Logf("killed %v, keys %v: %v", killed, keys.IDs(), found)
	}
}

// pairs damages one copy of a store.
type pairs struct {
	t     *testing.T
	w     *walk
	truth *picture
	rng   *rand.Rand
	name  string
	gone  map[string]bool // kinds of which some is gone, or damaged
}

func (p *pairs) one(mem *vfs.MemFS, onDisk bool) (how string) {
	t := p.t
	t.Helper()
	p.gone = map[string]bool{}
	kinds := slices.Sorted(func(yield func(string) bool) {
		for kind := range fileKinds {
			if !yield(kind) {
				return
			}
		}
	})
	p.rng.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	for _, kind := range kinds[:2] {
		p.damage(mem, kind)
	}
	o := p.w.o
	o.FS = mem
	if onDisk {
		o.Dir = filepath.Join(t.TempDir(), "data")
		p.toDisk(mem, &o)
		o.FS = vfs.Default
	}
	var pic *picture
	for start := range 3 {
		s, err := Open(o)
		if err != nil {
			t.Errorf("%s: start %d: %v", p.name, start, err)
			return "failed"
		}
		pic = look(s, p.w.mk.ids, p.w.mk.now.Add(market.Day))
		if err := s.Close(); err != nil {
			t.Errorf("%s: close: %v", p.name, err)
		}
		if len(pic.failed) == 0 {
			break
		}
	}
	if pic.rec.Mended == nil && p.gone["no mark"] && p.gone["log"] {
		return "believed as a copy" // without MARK a log that is cut off is one that was torn
	}
	// A table of which there is no trace is told as such.
	pic.vague = (p.gone["manifest"] || p.gone["marker"]) && (p.gone["table"] || p.gone["log"])
	if wrong := pic.against(p.truth); wrong != "" {
		t.Errorf("%s: %s\n%+v", p.name, wrong, pic.rec.Mended)
	}
	switch {
	case pic.rec.Mended == nil:
		return "not mended"
	case pic.rec.Mended.Failed != "":
		t.Errorf("%s: %s", p.name, pic.rec.Mended.Failed)
	case len(pic.rec.Mended.Lost) == 0 && len(pic.rec.Mended.LostSeqs) == 0:
		return "mended, nothing lost"
	}
	return "mended"
}

// damage does something to files of a kind.
func (p *pairs) damage(mem *vfs.MemFS, kind string) {
	t := p.t
	t.Helper()
	files := slices.DeleteFunc(filesOf(t, mem, p.w.o.Dir), func(path string) bool { return !fileKinds[kind](mem.PathBase(path)) })
	if len(files) == 0 {
		return
	}
	p.gone[kind] = true
	if p.rng.IntN(3) > 0 {
		i := p.rng.IntN(len(files))
		files = files[i : i+1]
	}
	for _, path := range files {
		what := p.rng.IntN(6)
		b := contentsOf(t, mem, path)
		switch {
		case what < 3:
			if err := mem.Remove(path); err != nil {
				t.Fatal(err)
			}
			p.name += ": " + path + " is missing"
			p.gone["no "+kind] = true
		case what == 3:
			rewrite(t, mem, path, nil)
			p.name += ": " + path + " is empty"
		case what == 4 || len(b) == 0:
			at := p.rng.IntN(len(b) + 1)
			rewrite(t, mem, path, b[:at])
			p.name += fmt.Sprintf(": %s ends at %d of %d", path, at, len(b))
		default:
			at := p.rng.IntN(len(b))
			b[at] ^= 1 << p.rng.IntN(8)
			rewrite(t, mem, path, b)
			p.name += fmt.Sprintf(": byte %d of %s, of %d", at, path, len(b))
		}
	}
}

// toDisk copies a store out of memory.
func (p *pairs) toDisk(mem *vfs.MemFS, o *Options) {
	t := p.t
	t.Helper()
	dir := filepath.Join(o.Dir, o.Lineage)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range filesOf(t, mem, mem.PathJoin(p.w.o.Dir, o.Lineage)) {
		if err := os.WriteFile(filepath.Join(dir, mem.PathBase(path)), contentsOf(t, mem, path), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
