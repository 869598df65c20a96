package sealed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

func mustKeys(t testing.TB, text string) *Keys {
	t.Helper()
	k, err := ParseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func layerOf(t testing.TB, fs vfs.FS, keys *Keys) vfs.FS {
	t.Helper()
	if err := fs.MkdirAll("d", 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := Open(fs, "d", keys)
	if err != nil {
		t.Fatal(err)
	}
	return l.Over(fs)
}

func readAll(t testing.TB, fs vfs.FS, name string) ([]byte, error) {
	t.Helper()
	f, err := fs.Open("d/" + name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return b, err
}

func writeAll(t testing.TB, fs vfs.FS, name string, data []byte) {
	t.Helper()
	f, err := fs.Create("d/"+name, vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write(bytes.Clone(data))
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func syncDirs(t testing.TB, mem *vfs.MemFS) {
	t.Helper()
	for _, name := range []string{"", "d"} {
		dir, err := mem.OpenDir(name)
		if err != nil || errors.Join(dir.Sync(), dir.Close()) != nil {
			t.Fatal(err)
		}
	}
}

func random(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// some returns lengths around the borders of frames.
func some(rng *rand.Rand) int {
	switch rng.IntN(6) {
	case 0:
		return rng.IntN(4)
	case 1:
		return tablePlain + rng.IntN(3) - 1
	case 2:
		return maxFrame + rng.IntN(3) - 1
	case 3:
		return rng.IntN(5 * maxFrame)
	}
	return rng.IntN(300)
}

// opened is a file under test and what it holds.
type opened struct {
	name   string
	file   vfs.File
	want   []byte
	synced int
}

// TestWalk does the same to encrypted files as to byte slices, with power cuts.
func TestWalk(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 8
	}
	for seed := range seeds {
		walk(t, seed)
		if t.Failed() {
			t.Fatalf("repeat with seed %d", seed)
		}
	}
}

func walk(t *testing.T, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 5))
	mem := vfs.NewCrashableMem()
	keys := mustKeys(t, NewKey())
	fs := layerOf(t, mem, keys)
	var all []*opened
	for i := range 12 {
		name := fmt.Sprintf([]string{"%06d.sst", "%06d.log", "MANIFEST-%06d", "OPTIONS-%06d"}[rng.IntN(4)], i+1)
		f, err := fs.Create("d/"+name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		o := &opened{name: name, file: f, synced: -1}
		all = append(all, o)
		for range rng.IntN(40) {
			if rng.IntN(4) == 0 {
				o.sync(t)
				continue
			}
			b := random(rng, some(rng))
			o.want = append(o.want, b...)
			if n, err := f.Write(b); n != len(b) || err != nil {
				t.Fatal(n, err)
			}
			if info, err := f.Stat(); err != nil || info.Size() != int64(len(o.want)) {
				t.Fatalf("%s: %v, %v, want %d bytes", name, info.Size(), err, len(o.want))
			}
		}
		switch rng.IntN(3) {
		case 0: // stays open
		case 1:
			o.sync(t)
			fallthrough
		default:
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			o.file = nil
			o.check(t, fs, rng)
		}
	}
	syncDirs(t, mem)
	after := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 30, 100}[rng.IntN(3)], RNG: rng})
	again := layerOf(t, after, keys)
	for _, o := range all {
		o.checkCrashed(t, again)
		if o.file != nil {
			_ = o.file.Close()
		}
	}
}

func (o *opened) sync(t *testing.T) {
	t.Helper()
	if err := o.file.Sync(); err != nil {
		t.Fatal(err)
	}
	o.synced = len(o.want)
}

func (o *opened) check(t *testing.T, fs vfs.FS, rng *rand.Rand) {
	t.Helper()
	got, err := readAll(t, fs, o.name)
	if err != nil || !bytes.Equal(got, o.want) {
		t.Fatalf("%s: %d bytes, %v; want %d", o.name, len(got), err, len(o.want))
	}
	f, err := fs.Open("d/" + o.name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	info, err := fs.Stat("d/" + o.name)
	if err != nil || kindOf(o.name) == kindTable && info.Size() != int64(len(o.want)) {
		t.Fatalf("%s: size %v, %v", o.name, info, err)
	}
	for range 20 {
		off := rng.IntN(len(o.want) + 2)
		p := make([]byte, some(rng))
		n, err := f.ReadAt(p, int64(off))
		want := o.want[min(off, len(o.want)):]
		want = want[:min(len(want), len(p))]
		if !bytes.Equal(p[:n], want) || n < len(p) != (err != nil) || err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("%s: read %d of %d at %d, %v; want %d", o.name, n, len(p), off, err, len(want))
		}
	}
}

// checkCrashed wants what was synced, and nothing that was not written.
func (o *opened) checkCrashed(t *testing.T, fs vfs.FS) {
	t.Helper()
	got, err := readAll(t, fs, o.name)
	if kindOf(o.name) == kindTable && o.synced != len(o.want) {
		if err == nil && !bytes.Equal(got, o.want[:len(got)]) {
			t.Fatalf("%s: other bytes", o.name)
		}
		return // pebble has not heard of it
	}
	if err != nil || len(got) < o.synced || !bytes.Equal(got, o.want[:len(got)]) {
		t.Fatalf("%s: %d of %d bytes, %d synced, %v", o.name, len(got), len(o.want), o.synced, err)
	}
}

// flipped returns a copy of the files with one bit of one of them changed.
func flipped(t testing.TB, mem *vfs.MemFS, name string, bit int) *vfs.MemFS {
	t.Helper()
	clone := mem.CrashClone(vfs.CrashCloneCfg{})
	b, err := readAll(t, clone, name)
	if err != nil {
		t.Fatal(err)
	}
	b[bit/8] ^= 1 << (bit % 8)
	writeAll(t, clone, name, b)
	return clone
}

// TestFlips changes bits: what is read is what was written, its beginning, where the
// end of a stream was hit, or nothing.
func TestFlips(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	mem := vfs.NewCrashableMem()
	keys := mustKeys(t, NewKey())
	fs := layerOf(t, mem, keys)
	want := map[string][]byte{}
	for _, name := range []string{"000001.sst", "000002.log", "MANIFEST-000003", "OPTIONS-000004"} {
		f, err := fs.Create("d/"+name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		for range 30 {
			b := random(rng, 1+rng.IntN(1500))
			want[name] = append(want[name], b...)
			if _, err := f.Write(b); err != nil || f.Sync() != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	syncDirs(t, mem)
	told, flips := 0, 300
	if testing.Short() {
		flips = 40
	}
	for name, data := range want {
		info, err := mem.Stat("d/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for range flips {
			bit := rng.IntN(int(info.Size()) * 8)
			hit := flipped(t, mem, name, bit)
			layer, err := Open(hit, "d", keys)
			if err != nil {
				told++
				continue
			}
			f, err := layer.Over(hit).Open("d/" + name)
			var got []byte
			if err == nil {
				got, err = io.ReadAll(f)
				_ = f.Close()
			}
			if err != nil && !errors.Is(err, ErrKey) && (!errors.Is(err, ErrDamaged) || !pebble.IsCorruptionError(err)) {
				t.Fatalf("%s, bit %d: %v", name, bit, err)
			}
			short := err == nil && len(got) < len(data)
			if err != nil {
				told++
			}
			// The last two frames have no later one that was written when they had been synced.
			if !bytes.Equal(got, data[:len(got)]) || short && (kindOf(name) != kindStream || len(data)-len(got) > 3000) {
				t.Fatalf("%s, bit %d: %d of %d bytes, %v", name, bit, len(got), len(data), err)
			}
		}
	}
	t.Logf("%d of %d told", told, flips*len(want))
}

func TestCuts(t *testing.T) {
	keys := mustKeys(t, NewKey())
	f := func(name string, keep int64, fine bool) {
		t.Helper()
		mem := vfs.NewMem()
		fs := layerOf(t, mem, keys)
		writeAll(t, fs, name, make([]byte, 3*tablePlain))
		if name == "000001.log" {
			writeAll(t, fs, "000003.log", []byte("next"))
		}
		b, err := readAll(t, mem, name)
		if err != nil {
			t.Fatal(err)
		}
		if keep < 0 {
			keep += int64(len(b))
		}
		writeAll(t, mem, name, b[:keep])
		_, err = readAll(t, layerOf(t, mem, keys), name)
		if fine != (err == nil) || err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s cut to %d of %d bytes: %v", name, keep, len(b), err)
		}
	}
	last := int64(countBytes + tablePlain + tagBytes)
	f("000001.sst", -last, false) // at the end of a frame
	f("000001.sst", -2*last, false)
	f("000001.sst", -1, false)
	f("000001.sst", headerBytes, false)
	f("000001.sst", 17, false)
	f("000001.sst", 0, false)
	f("000001.log", -1, false) // the next log knows how long it was
	f("000001.log", headerBytes, false)
	f("000001.log", 0, false)
	f("000002.log", -1, true) // a torn tail
	f("000002.log", 0, true)
	f("MANIFEST-000001", -1, true)
}

// TestStrangers puts files where they do not belong.
func TestStrangers(t *testing.T) {
	keys := mustKeys(t, NewKey())
	f := func(want error, change func(mem *vfs.MemFS, fs vfs.FS)) {
		t.Helper()
		mem := vfs.NewMem()
		fs := layerOf(t, mem, keys)
		writeAll(t, fs, "000001.sst", []byte("one"))
		writeAll(t, fs, "000002.sst", []byte("two"))
		writeAll(t, fs, "MANIFEST-000003", []byte("three"))
		change(mem, fs)
		l, err := Open(mem, "d", keys)
		if err == nil {
			_, err = readAll(t, l.Over(mem), "000002.sst")
		}
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	f(nil, func(*vfs.MemFS, vfs.FS) {})
	f(nil, func(mem *vfs.MemFS, _ vfs.FS) { writeAll(t, mem, "marker.manifest.000001.MANIFEST-000003", nil) })
	f(nil, func(mem *vfs.MemFS, _ vfs.FS) { writeAll(t, mem, "notes.txt", []byte("not the store's")) })
	f(ErrDamaged, func(mem *vfs.MemFS, _ vfs.FS) { writeAll(t, mem, "000002.sst", []byte("not encrypted at all")) })
	f(ErrDamaged, func(mem *vfs.MemFS, _ vfs.FS) {
		b, _ := readAll(t, mem, "000001.sst")
		writeAll(t, mem, "000002.sst", b)
	})
	f(ErrDamaged, func(mem *vfs.MemFS, _ vfs.FS) { // of another store
		other := vfs.NewMem()
		writeAll(t, layerOf(t, other, keys), "000002.sst", []byte("two"))
		b, _ := readAll(t, other, "000002.sst")
		writeAll(t, mem, "000002.sst", b)
	})
	f(ErrKey, func(mem *vfs.MemFS, _ vfs.FS) { // and of another key
		other := vfs.NewMem()
		writeAll(t, layerOf(t, other, mustKeys(t, NewKey())), "000002.sst", []byte("two"))
		b, _ := readAll(t, other, "000002.sst")
		writeAll(t, mem, "000002.sst", b)
	})
}

func TestWrongKeys(t *testing.T) {
	a, b := NewKey(), NewKey()
	f := func(written, read string, want error) {
		t.Helper()
		mem := vfs.NewMem()
		fs := vfs.FS(mem)
		if written != "" {
			fs = layerOf(t, mem, mustKeys(t, written))
		} else if err := mem.MkdirAll("d", 0o700); err != nil {
			t.Fatal(err)
		}
		writeAll(t, fs, "MANIFEST-000001", []byte("text that is long enough to be more than a header would be, were it to be one; and still a little longer"))
		before := mem.String()
		var keys *Keys
		if read != "" {
			keys = mustKeys(t, read)
		}
		l, err := Open(mem, "d", keys)
		if !errors.Is(err, want) || mem.String() != before {
			t.Errorf("written with %q, read with %q: %v", written, read, err)
		}
		if want != nil {
			return
		}
		if got, err := readAll(t, l.Over(mem), "MANIFEST-000001"); err != nil || len(got) != 104 {
			t.Errorf("%q, %v", got, err)
		}
	}
	f(a, a, nil)
	f(a, b+"\n"+a, nil)
	f("", "", nil)
	f("", a+"\nplain", nil)
	f("plain\n"+a, "", nil)
	f(a, "plain\n"+a, nil)
	f(a, b, ErrKey)
	f(a, "", ErrKey)
	f("", a, ErrKey)
	f(b+"\n"+a, a, ErrKey)
}

// TestMark writes and tears the mark's slots.
func TestMark(t *testing.T) {
	mem := vfs.NewMem()
	keys := mustKeys(t, NewKey())
	open := func(fs vfs.FS) vfs.File {
		t.Helper()
		f, err := fs.OpenReadWrite("d/MARK", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := open(layerOf(t, mem, keys))
	read := func(f vfs.File, first, second string) {
		t.Helper()
		b := make([]byte, 512+4)
		n, err := f.ReadAt(b, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if string(b[:4]) != first || n > 512 && string(b[512:n]) != second {
			t.Errorf("%q and %q of %d bytes, want %q and %q", b[:4], b[512:], n, first, second)
		}
	}
	for i, text := range []string{"zero", "one.", "two."} {
		if _, err := f.WriteAt([]byte(text), int64(i%2)*512); err != nil {
			t.Fatal(err)
		}
	}
	read(f, "two.", "one.")
	raw, err := mem.OpenReadWrite("d/MARK", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	disk := make([]byte, 2*512)
	n, _ := raw.ReadAt(disk, 0)
	if bytes.Contains(disk, []byte("two.")) || n < 600 {
		t.Errorf("on disk %q", disk[:n])
	}
	if _, err := raw.WriteAt(disk[512:n], 0); err != nil { // a slot in another's place
		t.Fatal(err)
	}
	read(f, "\x00\x00\x00\x00", "one.")
	if _, err := f.WriteAt(make([]byte, SlotPlain+1), 0); !errors.Is(err, errSlot) {
		t.Error(err)
	}
	if err := errors.Join(f.Close(), raw.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestFailedWrite never seals two things with one nonce.
func TestFailedWrite(t *testing.T) {
	for _, name := range []string{"000001.log", "000001.sst"} {
		mem := vfs.NewMem()
		fail := &failing{FS: mem}
		fs := layerOf(t, fail, mustKeys(t, NewKey()))
		f, err := fs.Create("d/"+name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		fail.now = true
		big := make([]byte, 200_000)
		if _, err := f.Write(big); !errors.Is(err, errFails) {
			t.Error(err)
		}
		fail.now = false
		if _, err := f.Write(big); !errors.Is(err, errOver) {
			t.Error(err)
		}
		_ = f.Close()
	}
}

var errFails = errors.New("fails")

type failing struct {
	vfs.FS
	now bool
}

func (s *failing) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, c)
	return &failingFile{f, s}, err
}

type failingFile struct {
	vfs.File
	fs *failing
}

func (f *failingFile) Write(p []byte) (int, error) {
	if f.fs.now {
		return 0, errFails
	}
	return f.File.Write(p)
}
