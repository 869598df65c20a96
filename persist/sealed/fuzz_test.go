package sealed

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// sample returns what a file of two frames and a bit is on disk.
func sample(t testing.TB, keys *Keys, name string) (disk, plain []byte) {
	t.Helper()
	mem := vfs.NewMem()
	f, err := layerOf(t, mem, keys).Create("d/"+name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{700, 300, tablePlain} {
		part := bytes.Repeat([]byte{byte(n)}, n)
		plain = append(plain, part...)
		if _, err := f.Write(part); err != nil || f.Sync() != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	disk, err = readAll(t, mem, name)
	if err != nil {
		t.Fatal(err)
	}
	return disk, plain
}

// FuzzFile puts bytes into files, instead of some that were written or behind them:
// nothing is read but what was written.
func FuzzFile(f *testing.F) {
	keys := mustKeys(f, NewKey())
	names := []string{"000001.sst", "000002.log", "MANIFEST-000003", "OPTIONS-000004"}
	disks, plains := make([][]byte, len(names)), make([][]byte, len(names))
	for i, name := range names {
		disks[i], plains[i] = sample(f, keys, name)
		f.Add(uint8(i), uint16(headerBytes), true, disks[i][headerBytes:])
		f.Add(uint8(i), uint16(0), false, disks[i])
		f.Add(uint8(i), uint16(0), false, disks[i][:headerBytes])
		f.Add(uint8(i), uint16(headerBytes), true, []byte{1, 0, 0})
		f.Add(uint8(i), uint16(len(disks[i])), true, disks[i][headerBytes:])
	}
	f.Fuzz(func(t *testing.T, which uint8, at uint16, keep bool, data []byte) {
		i := int(which) % len(names)
		disk := bytes.Clone(data)
		if keep {
			disk = bytes.Clone(disks[i])
			at := min(int(at), len(disk))
			disk = append(disk[:at], append(bytes.Clone(data), disk[min(at+len(data), len(disk)):]...)...)
		}
		mem := vfs.NewMem()
		if err := mem.MkdirAll("d", 0o700); err != nil {
			t.Fatal(err)
		}
		writeAll(t, mem, names[i], disk)
		h, what := parseHeader(disk)
		l := &Layer{keys: keys, dir: "d"}
		if what == looksSealed {
			l.store = h.store
		}
		got, err := readAll(t, l.Over(mem), names[i])
		if len(got) > len(plains[i]) || !bytes.Equal(got, plains[i][:len(got)]) {
			t.Fatalf("%s: %d bytes that were never written, %v", names[i], len(got), err)
		}
		if err == nil && kindOf(names[i]) == kindTable && !bytes.Equal(got, plains[i]) {
			t.Fatalf("%s: a part without an error", names[i])
		}
	})
}

// FuzzMark puts bytes into the mark.
func FuzzMark(f *testing.F) {
	keys := mustKeys(f, NewKey())
	l := &Layer{keys: keys}
	mem := vfs.NewMem()
	mark := &slotFile{File: mustCreate(f, mem), l: l, name: markName}
	if _, err := mark.WriteAt([]byte("a promise"), 0); err != nil {
		f.Fatal(err)
	}
	disk := make([]byte, 2*slotBytes)
	n, err := mark.File.ReadAt(disk, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		f.Fatal(err)
	}
	f.Add(disk[:n])
	f.Add(append(bytes.Clone(disk[:slotBytes]), disk[:n]...))
	f.Fuzz(func(t *testing.T, data []byte) {
		file := mustCreate(t, vfs.NewMem())
		if _, err := file.WriteAt(data, 0); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 2*slotBytes)
		n, err := (&slotFile{File: file, l: l, name: markName}).ReadAt(b, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if left := bytes.Trim(b[:n], "\x00"); len(left) > 0 && string(left) != "a promise" {
			t.Fatalf("the mark says %q", left)
		}
	})
}

func mustCreate(t testing.TB, fs vfs.FS) vfs.File {
	t.Helper()
	f, err := fs.Create(markName, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// FuzzKeys reads key files.
func FuzzKeys(f *testing.F) {
	f.Add(NewKey() + "\nplain\n# no key\n")
	f.Add("plain," + NewKey())
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseKeys(text)
		if err == nil && (len(k.read) == 0 || len(k.IDs()) > maxKeys || k.write == nil && !k.plain) {
			t.Fatalf("%q is %v", text, k)
		}
	})
}
