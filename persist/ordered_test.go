package persist

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A marker that survives a power cut has what was made before it.
func TestMarkersComeLast(t *testing.T) {
	mem := vfs.NewCrashableMem()
	fs := ordered{mem}
	for _, name := range []string{"MANIFEST-1", "marker.manifest.1.MANIFEST-1"} {
		f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := mem.CrashClone(vfs.CrashCloneCfg{}).List(""); err != nil || len(names) != 1 || names[0] != "MANIFEST-1" {
		t.Fatalf("%v, %v are left", names, err)
	}
}
