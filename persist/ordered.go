package persist

import (
	"errors"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ordered is a file system on which a marker never outlives what it names. Pebble
// makes a new manifest and then a marker with its name, and syncs the folder once
// for both: where a power cut keeps the newer name alone, no start succeeds.
type ordered struct{ vfs.FS }

// markerPrefix begins the names of pebble's markers.
const markerPrefix = "marker."

// Create implements vfs.FS.
func (o ordered) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(o.PathBase(name), markerPrefix) {
		dir, err := o.OpenDir(o.PathDir(name))
		if err != nil {
			return nil, err
		}
		if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
			return nil, err
		}
	}
	return o.FS.Create(name, category)
}

// Unwrap implements vfs.FS.
func (o ordered) Unwrap() vfs.FS { return o.FS }
