package persist

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// A window shows what the file holds, wherever it is moved to.
func TestRawFile(t *testing.T) {
	rng, mem := rand.New(rand.NewPCG(1, 3)), vfs.NewMem()
	for _, size := range []int{0, 1, rawPiece, rawWindow, rawWindow + 1, 3*rawWindow + 7} {
		data := make([]byte, size)
		used := max(size-rng.IntN(rawPiece*2), 0)
		for i := range used {
			data[i] = byte(1 + i%251)
		}
		rewrite(t, mem, "/f", data)
		f, err := openRaw(mem, "/f")
		if err != nil {
			t.Fatal(err)
		}
		f.reads = &pastReads{pieces: map[int64]uint32{}}
		for range 200 {
			at, n := rng.IntN(size+1), rng.IntN(rawPiece)
			if rng.IntN(20) == 0 {
				n = rng.IntN(2 * rawWindow)
			}
			b, err := f.bytes(int64(at), n)
			if want := data[at:min(at+n, size)]; err != nil || !bytes.Equal(b, want) {
				t.Fatalf("%d from %d of %d: %d, %v", n, at, size, len(b), err)
			}
			if cap(f.b) > 4*rawWindow {
				t.Fatalf("%d bytes in memory", cap(f.b))
			}
		}
		if end, err := f.end(); err != nil || end != int64(used) {
			t.Errorf("ends at %d of %d, not %d, %v", end, size, used, err)
		}
		f.close()
	}
}

// Foreign files, however large, are looked at from both ends.
func TestMendForeign(t *testing.T) {
	base, w := flipBase(t, true, nil)
	truth := openLook(t, w, base.CrashClone(vfs.CrashCloneCfg{}))
	mem := base.CrashClone(vfs.CrashCloneCfg{})
	o := w.o
	o.FS = mem
	dir := mem.PathJoin(o.Dir, o.Lineage)
	junk := make([]byte, 12<<20)
	for i := range junk {
		junk[i] = byte(i * i >> 7)
	}
	for _, name := range []string{"foreign", "999999.sst.bak", "999998.sst", "999997.log"} {
		rewrite(t, mem, mem.PathJoin(dir, name), junk)
	}
	if err := mem.MkdirAll(mem.PathJoin(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	flagDamaged(t, &o)
	count := &readCounter{FS: mem, read: map[string]int{}}
	o.FS = count
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	p := look(s, w.mk.ids, w.mk.now.Add(market.Day))
	if wrong := p.against(truth); wrong != "" || p.rec.Mended == nil {
		t.Errorf("%s\n%+v", wrong, p.rec.Mended)
	}
	if n := count.read[mem.PathJoin(dir, "foreign")]; n == 0 || n > 6<<20 {
		t.Errorf("%d bytes of a foreign file were read", n)
	}
}

// readCounter counts the bytes that are read of each file.
type readCounter struct {
	vfs.FS
	read map[string]int
}

func (c *readCounter) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := c.FS.Open(name, opts...)
	if err != nil || c.PathBase(name) != "foreign" {
		return f, err
	}
	return countedFile{f, c, name}, nil
}

type countedFile struct {
	vfs.File
	c    *readCounter
	name string
}

func (f countedFile) ReadAt(p []byte, off int64) (int, error) {
	f.c.read[f.name] += len(p)
	return f.File.ReadAt(p, off)
}

// What is held of damage is bounded, and what was joined is counted and covered.
func TestMendBounds(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	var hits []hit
	var keys [][]byte
	for i := range 5000 {
		k := []byte{'a' + byte(i/250), byte(rng.Uint32()), byte(rng.Uint32())}
		keys = append(keys, k)
		h := hit{after: k, before: after(k)}
		if i == 3000 {
			h.before = nil
		}
		hits = addHit(hits, h)
	}
	if len(hits) > maxHits || parts(hits) != 5000 {
		t.Errorf("%d hits of %d parts", len(hits), parts(hits))
	}
	for _, k := range keys {
		if !slices.ContainsFunc(hits, func(h hit) bool {
			return bytes.Compare(h.after, k) <= 0 && (h.before == nil || bytes.Compare(k, h.before) < 0)
		}) {
			t.Fatalf("%x is in no hit", k)
		}
	}
	var r Mended
	for i := range uint64(3000) {
		r.addSeqs(SeqRange{First: 10*i + 1, Last: 10*i + 1 + i%5})
	}
	for i := range uint64(3000) {
		if !slices.ContainsFunc(r.LostSeqs, func(l SeqRange) bool { return l.First <= 10*i+1 && 10*i+1+i%5 <= l.Last }) {
			t.Fatalf("seq %d is in no range", 10*i+1)
		}
	}
	if len(r.LostSeqs) != maxLostSeqs || r.Joined != 3000-maxLostSeqs {
		t.Errorf("%d ranges, %d joined", len(r.LostSeqs), r.Joined)
	}
	m := &mender{report: &Mended{}}
	for i := range 700 {
		m.add(Loss{Kind: "1m", LastToken: anyToken, From: market.Time(i * 10), To: market.Time(i*10 + 5)})
		m.hitLog(uint64(i))
		m.hitLog(uint64(i))
	}
	if len(m.report.Lost) != maxLoss || len(m.logHits) != maxHits || m.report.Joined != 700-maxLoss+1400-maxHits {
		t.Errorf("%d losses, %d parts of logs, %d joined", len(m.report.Lost), len(m.logHits), m.report.Joined)
	}
}

// A table of which every second block is damaged costs time for what it holds, not
// for how far a block may reach; large blocks between are found.
func TestMendManyBlocks(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	w := newWalk(t, 7, testOptions(mem), 60)
	w.mk.dirty, w.mk.share = false, 1
	for i := range 200 {
		w.append(market.Minute)
		if i%100 == 0 {
			w.save()
		}
	}
	big := append(record.Begin(nil), bytes.Repeat([]byte{1, 0, 0}, 100<<10)...)
	key := record.NameKey(9)
	record.Seal(key, big)
	if err := w.s.db.Set(key, big, nil); err != nil {
		t.Fatal(err)
	}
	w.commit()
	settled(t, w.s)
	n := 0
	hits := hitBlocks(t, mem, &w.o, func(kinds string) bool {
		n++
		return n%2 == 0 && !strings.Contains(kinds, "n")
	})
	for _, name := range filesOf(t, mem, w.o.Dir) {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		f, err := openRaw(mem, name)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		all, _, err := newTableReader().read(f, func(k, v []byte) error {
			found = found || bytes.Equal(k, key) && bytes.Equal(v, big)
			return nil
		})
		if hits -= parts(all); err != nil || !found && f.size() > int64(len(big)) && strings.Contains(string(contentsOf(t, mem, name)), string(big)) {
			t.Errorf("%s: the large block is found: %v, %v", name, found, err)
		}
		f.close()
	}
	if hits != 0 || n < 20 {
		t.Errorf("of %d blocks %d more are damaged than found", n, hits)
	}
}
