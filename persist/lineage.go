package persist

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/persist/record"
	"github.com/velocimeter/velocimeter/persist/sealed"
)

const lockFile = "LOCK"

// lockDir takes the data folder for this process. Errors: ErrLocked where another
// process has it, else what the file system says.
func lockDir(o *Options) (io.Closer, error) {
	if err := makeDir(o.FS, o.Dir); err != nil {
		return nil, fmt.Errorf("cannot create data folder %q: %w", o.Dir, err)
	}
	lock, err := o.FS.Lock(o.FS.PathJoin(o.Dir, lockFile))
	switch {
	case err == nil:
		return lock, nil
	case held(err):
		return nil, fmt.Errorf("cannot lock data folder %q: %w (%w)", o.Dir, ErrLocked, err)
	}
	return nil, fmt.Errorf("cannot lock data folder %q: %w", o.Dir, err)
}

// held reports whether a lock could not be had because another has it. A file
// system that knows no locks, or has none left, is something else, and so is a
// lock file that cannot be opened, which only a PathError tells.
func held(err error) bool {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return false
	}
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) ||
		err.Error() == "lock held by current process" // pebble's own, a value of no name
}

// makeDir creates a folder and what is above it, so that a power cut cannot
// take the names away again.
func makeDir(files vfs.FS, dir string) error {
	_, err := files.Stat(dir)
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	parent := files.PathDir(dir)
	if parent != dir {
		if err := makeDir(files, parent); err != nil {
			return err
		}
	}
	if err := files.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return syncDir(files, parent)
}

// setAside renames a lineage that a fresh one replaces, so that nobody's data
// is deleted, to what asideName says.
func setAside(o *Options) error {
	target, err := asideName(o)
	if err != nil || target == "" {
		return err
	}
	return moveAside(o, target)
}

// asideName is where a lineage would go: to <lineage>.<epoch>.old, and further with
// a number where that exists; "" where there is no lineage.
func asideName(o *Options) (target string, err error) {
	dir := o.FS.PathJoin(o.Dir, o.Lineage)
	if there, err := exists(o.FS, dir); err != nil || !there {
		return "", err
	}
	name := o.Lineage + "." + epochOf(o, dir) + ".old"
	target = o.FS.PathJoin(o.Dir, name)
	for n := 2; ; n++ {
		if taken, err := exists(o.FS, target); err != nil || !taken {
			return target, err
		}
		target = o.FS.PathJoin(o.Dir, fmt.Sprintf("%s.%d", name, n))
	}
}

func moveAside(o *Options, target string) error {
	if err := o.FS.Rename(o.FS.PathJoin(o.Dir, o.Lineage), target); err != nil {
		return fmt.Errorf("cannot set lineage %q aside: %w", o.Lineage, err)
	}
	o.Logger.Warn("lineage set aside for a fresh one", "lineage", o.Lineage, "now", target)
	return syncDir(o.FS, o.Dir)
}

func exists(files vfs.FS, path string) (bool, error) {
	_, err := files.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot look at %q: %w", path, err)
	}
	return true, nil
}

// epochOf reads the epoch of a lineage without changing it.
func epochOf(o *Options, dir string) string {
	var db *pebble.DB
	layer, err := sealed.Open(o.FS, dir, o.Keys)
	if err == nil {
		db, err = openStill(o.FS, dir, layer)
	}
	if err != nil {
		o.Logger.Warn("cannot read the epoch of a lineage", "lineage", o.Lineage, "error", err)
		return "unknown"
	}
	defer func() { _ = db.Close() }()
	epoch, err := getMeta(db, record.MetaEpoch)
	if err != nil || !epochText.Match(epoch) {
		return "unknown"
	}
	return string(epoch)
}

func syncDir(files vfs.FS, name string) error {
	d, err := files.OpenDir(name)
	if err != nil {
		return fmt.Errorf("cannot sync folder %q: %w", name, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("cannot sync folder %q: %w", name, err)
	}
	return nil
}

// quiet is a logger for a store that is only looked at.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, a ...any) {
	panic("BUG: fatal in a read-only store: " + fmt.Sprintf(format, a...))
}
