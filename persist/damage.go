package persist

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// known says what is known to be wrong with a store before it is opened.
func (s *Store) known(dir string) error {
	if unborn(s.opts.FS, dir) {
		return nil // pebble begins it again
	}
	if err := readable(s.opts.FS, dir); err != nil {
		return err
	}
	if err := trouble(loose(&s.opts, dir), dir); err != nil {
		return err
	}
	if s.readOnly {
		return nil
	}
	flag := s.opts.FS.PathJoin(dir, damageFile)
	if _, err := s.opts.FS.Stat(flag); err == nil {
		return fmt.Errorf("%w: a file was found to be damaged while it was in use", ErrCorrupt)
	}
	s.h.found = func() {
		if err := errors.Join(writeFile(s.opts.FS, flag, nil), syncDir(s.opts.FS, dir)); err != nil {
			s.log.Error("cannot note that the store is damaged", "file", flag, "error", err)
		}
	}
	return nil
}

// unbornLog bounds the log of a store in which nothing was ever put: it may have the
// head of an encrypted file.
const unbornLog = 512

// unborn reports whether the first opening of a store was cut short: there is its
// manifest, and not what comes behind the first log. Nothing was put in then, since
// that begins with a mark.
func unborn(fs vfs.FS, dir string) bool {
	names, err := fs.List(dir)
	if err != nil || !begun(names) {
		return false
	}
	for _, name := range names {
		_, table := fileNumber(name, ".sst")
		_, log := fileNumber(name, ".log")
		switch {
		case table, strings.HasPrefix(name, formatMarker), strings.HasPrefix(name, "OPTIONS-"), strings.HasPrefix(name, markFile):
			return false
		case log:
			if info, err := fs.Stat(fs.PathJoin(dir, name)); err != nil || info.Size() > unbornLog {
				return false
			}
		}
	}
	return true
}

// readable wants a store that this program's pebble knows.
func readable(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && !begun(names) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot list %q: %w", dir, err)
	}
	for _, name := range names {
		_, text, ok := strings.Cut(strings.TrimPrefix(name, formatMarker), ".")
		if !ok || !strings.HasPrefix(name, formatMarker) {
			continue
		}
		if v, err := strconv.ParseUint(text, 10, 32); err == nil && v > uint64(pebble.FormatNewest) {
			return fmt.Errorf("%w: pebble's version %d, this program reads up to %d", ErrFormat, v, uint64(pebble.FormatNewest))
		}
		return nil
	}
	return fmt.Errorf("%w: %q has no format version", ErrCorrupt, dir)
}

// suspicion says why a store that could be opened is not whole; nil: it seems to be.
func (s *Store) suspicion() error {
	if s.h.corrupt.Load() {
		return fmt.Errorf("%w: a file is damaged", ErrCorrupt)
	}
	return s.broken
}

// openPebble opens a store of which nothing is known to be wrong. What its files
// hold may yet end in a panic.
func openPebble(dir string, options *pebble.Options, h *health) (db *pebble.DB, err error) {
	opened := make(chan *pebble.DB, 1)
	h.opening.Store(true)
	defer h.opening.Store(false)
	err = h.guard(func() (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("%w: %v", ErrCorrupt, r)
			}
		}()
		db, err := pebble.Open(dir, options)
		opened <- db
		return err
	})
	if h.err() != nil {
		return nil, h.err()
	}
	if h.stuck.Load() {
		err = errors.Join(err, h.held.release())
	}
	if len(opened) > 0 {
		db = <-opened
	}
	if err != nil && !system(err) || pebble.IsCorruptionError(err) {
		err = errors.Join(ErrCorrupt, err)
	}
	return db, err
}

// system reports whether an error is the operating system's: any other of opening
// a store is about what its files hold.
func system(err error) bool {
	if _, ok := errors.AsType[syscall.Errno](err); ok {
		return true
	}
	_, ok := errors.AsType[*os.PathError](err)
	return ok || errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission)
}

// heldFiles are files that pebble has no use for any more while it is not known yet
// whether its view of them is right.
type heldFiles struct {
	mu    sync.Mutex
	fs    vfs.FS
	files []string
	over  bool
	lock  io.Closer // of the store's folder
}

// release lets go of the folder's lock although pebble, which cannot be closed any
// more, does not.
func (h *heldFiles) release() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lock == nil {
		return nil
	}
	return h.lock.Close()
}

// onceCloser closes once, whoever asks.
type onceCloser struct {
	io.Closer
	once sync.Once
}

func (c *onceCloser) Close() (err error) {
	c.once.Do(func() { err = c.Closer.Close() })
	return err
}

// letGo removes what was held, once the store is known to be sound.
func (h *health) letGo() {
	h.held.mu.Lock()
	defer h.held.mu.Unlock()
	h.held.over = true
	for _, name := range h.held.files {
		if err := h.held.fs.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			h.log.Warn("cannot remove a file that is not needed", "file", name, "error", err)
		}
	}
	h.held.files = nil
}

// keeping is a file system that keeps tables, logs and manifests until letGo.
type keeping struct {
	vfs.FS
	held *heldFiles
}

// Remove implements vfs.FS.
func (k keeping) Remove(name string) error {
	base := k.PathBase(name)
	if strings.HasSuffix(base, ".sst") || strings.HasSuffix(base, ".log") || strings.HasPrefix(base, manifestPrefix) {
		k.held.mu.Lock()
		defer k.held.mu.Unlock()
		if !k.held.over {
			k.held.fs, k.held.files = k.FS, append(k.held.files, name)
			return nil
		}
	}
	return k.FS.Remove(name)
}

// Lock implements vfs.FS.
func (k keeping) Lock(name string) (io.Closer, error) {
	lock, err := k.FS.Lock(name)
	if err != nil {
		return nil, err
	}
	k.held.mu.Lock()
	defer k.held.mu.Unlock()
	once := &onceCloser{Closer: lock}
	k.held.lock = once
	return once, nil
}

// Unwrap implements vfs.FS.
func (k keeping) Unwrap() vfs.FS { return k.FS }
