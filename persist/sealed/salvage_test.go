package sealed

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// salvaged reads a file in pieces of some size, every second one twice.
func salvaged(s *Loose, path string) (data []byte, torn bool, err error) {
	f, err := s.Salvage(path)
	if err != nil {
		return nil, true, err
	}
	p := make([]byte, 1+rand.IntN(5000))
	for int64(len(data)) < f.Size() {
		at := int64(len(data))
		if rand.IntN(2) == 0 {
			_, _ = f.ReadAt(p, max(at-7000, 0))
		}
		n, _ := f.ReadAt(p, at)
		data = append(data, p[:n]...)
	}
	return data, f.Torn(), f.Close()
}

// What is hit costs its frame: the rest of a file can be read, at its place, and
// nothing else ever appears.
func TestReadAllOfDamage(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	keys := mustKeys(t, NewKey())
	for _, name := range []string{"000007.sst", "000007.log"} {
		for range 200 {
			mem := vfs.NewMem()
			fs := layerOf(t, mem, keys)
			f, err := fs.Create("d/"+name, vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			var want []byte
			frame := tablePlain
			for range 1 + rng.IntN(9) {
				p := make([]byte, 1+rng.IntN(6000))
				for i := range p {
					p[i] = byte(1 + rng.IntN(255))
				}
				want = append(want, p...)
				if _, err := f.Write(p); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(f.Sync(), f.Close()); err != nil {
				t.Fatal(err)
			}
			disk, err := readAll(t, mem, name)
			if err != nil {
				t.Fatal(err)
			}
			loose, err := OpenLoose(mem, "d", keys)
			if err != nil {
				t.Fatal(err)
			}
			if got, torn, err := salvaged(loose, "d/"+name); err != nil || torn || !bytes.Equal(got, want) {
				t.Fatalf("%s whole: %d of %d bytes, %v, %v", name, len(got), len(want), torn, err)
			}
			disk[headerBytes+rng.IntN(len(disk)-headerBytes)] ^= 1 << rng.IntN(8)
			writeAll(t, mem, name, disk)
			got, torn, err := salvaged(loose, "d/"+name)
			if err != nil || !torn {
				t.Fatalf("%s damaged: %v, %v", name, torn, err)
			}
			lost := len(want) - min(len(got), len(want))
			for i := range min(len(got), len(want)) {
				switch got[i] {
				case want[i]:
				case 0, 0xff:
					lost++
				default:
					t.Fatalf("%s: byte %d is %d, not %d", name, i, got[i], want[i])
				}
			}
			if lost > frame {
				t.Fatalf("%s: %d bytes are lost", name, lost)
			}
		}
	}
}

// Files of another store, of no store, or whose beginning is gone, hold nothing.
func TestReadAllRefuses(t *testing.T) {
	keys := mustKeys(t, NewKey())
	mem := vfs.NewMem()
	fs := layerOf(t, mem, keys)
	writeAll(t, fs, "000001.sst", []byte("ours"))
	writeAll(t, fs, "000002.sst", []byte("ours too"))
	other, err := Open(vfs.NewMem(), "d", keys)
	if err != nil {
		t.Fatal(err)
	}
	writeAll(t, other.Over(mem), "000003.sst", []byte("theirs"))
	writeAll(t, mem, "000004.sst", bytes.Repeat([]byte("plain"), 100))
	loose, err := OpenLoose(mem, "d", keys)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"000001.sst": "ours", "000002.sst": "ours too", "000003.sst": "", "000004.sst": ""} {
		if got, _, err := salvaged(loose, "d/"+name); string(got) != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if none, err := OpenLoose(mem, "d", nil); none != nil || err != nil {
		t.Errorf("without keys: %v, %v", none, err)
	}
}

// Files that were mixed up are read by what they are.
func TestReadAllOfSwapped(t *testing.T) {
	keys := mustKeys(t, NewKey())
	mem := vfs.NewMem()
	fs := layerOf(t, mem, keys)
	for _, name := range []string{"000001.sst", "000002.sst", "000003.log", "MANIFEST-000004"} {
		writeAll(t, fs, name, []byte(name))
	}
	swap := func(a, b string) {
		t.Helper()
		x, err := readAll(t, mem, a)
		y, other := readAll(t, mem, b)
		if err := errors.Join(err, other); err != nil {
			t.Fatal(err)
		}
		writeAll(t, mem, a, y)
		writeAll(t, mem, b, x)
		loose, err := OpenLoose(mem, "d", keys)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{a, b} {
			got, torn, err := salvaged(loose, "d/"+name)
			if want := a + b; err != nil || torn || string(got)+name != want && name+string(got) != want {
				t.Errorf("%s: %q, %v, %v", name, got, torn, err)
			}
		}
		writeAll(t, mem, a, x)
		writeAll(t, mem, b, y)
	}
	swap("000001.sst", "000002.sst")
	swap("000001.sst", "000003.log")
	swap("MANIFEST-000004", "000003.log")
}

// A log whose beginning was wiped out is damaged, and none that was never written.
func TestReadAllWipedHead(t *testing.T) {
	keys := mustKeys(t, NewKey())
	mem := vfs.NewMem()
	writeAll(t, layerOf(t, mem, keys), "000003.log", bytes.Repeat([]byte("tick"), 1000))
	disk, err := readAll(t, mem, "000003.log")
	if err != nil {
		t.Fatal(err)
	}
	loose, err := OpenLoose(mem, "d", keys)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{headerBytes, len(disk)} {
		clear(disk[:n])
		writeAll(t, mem, "000003.log", disk)
		if data, torn, err := salvaged(loose, "d/000003.log"); len(data) > 0 || torn != (n < len(disk)) || err != nil {
			t.Errorf("%d bytes wiped: %d, %v, %v", n, len(data), torn, err)
		}
	}
}
