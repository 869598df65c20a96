package sealed

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// BenchmarkTable reads a block of pebble's from a table, and writes it.
func BenchmarkTable(b *testing.B) {
	const block = 32<<10 + 5
	for _, name := range []string{"plain", "encrypted"} {
		mem := vfs.NewMem()
		fs := vfs.FS(mem)
		if err := mem.MkdirAll("d", 0o700); err != nil {
			b.Fatal(err)
		}
		if name == "encrypted" {
			fs = layerOf(b, mem, mustKeys(b, NewKey()))
		}
		writeAll(b, fs, "000001.sst", make([]byte, 64*block))
		f, err := fs.Open("d/000001.sst")
		if err != nil {
			b.Fatal(err)
		}
		p := make([]byte, block)
		b.Run("read/"+name, func(b *testing.B) {
			b.SetBytes(block)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if _, err := f.ReadAt(p, int64(n%63)*block); err != nil {
					b.Fatal(err)
				}
			}
		})
		_ = f.Close()
		b.Run("write/"+name, func(b *testing.B) {
			b.SetBytes(64 * block)
			data := make([]byte, 64*block)
			for b.Loop() {
				writeAll(b, fs, "000002.sst", data)
			}
		})
	}
}
