package persist

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/persist/sealed"
)

// commitFailure begins pebble's report of a failed commit. It comes from the
// goroutine that called Apply, which may go on: the log writer keeps the error
// and every later commit fails too.
const commitFailure = "pebble: fatal commit error"

// fullPause is how long a write waits after it found no space: it turns
// pebble's busy retries into at most four a second.
const fullPause = 250 * time.Millisecond

// blockBytes is what is read at once. Chunks are read in runs, above all when a
// start loads every window: smaller blocks cost a call of the system each.
const blockBytes = 32 << 10

// health is what pebble's callbacks report, from any goroutine.
type health struct {
	log        *slog.Logger
	onFatal    func(error)
	onFull     func()
	space      *space
	fatal      atomic.Pointer[error]
	last       atomic.Pointer[error]
	background atomic.Uint64
	full       atomic.Uint64
	parked     atomic.Bool   // a goroutine of pebble waits in Fatalf
	dead       chan struct{} // closed with the first of them
	closing    chan struct{}
	found      func() // tells the next start of a damaged file; nil: nobody
	corrupt    atomic.Bool
	opening    atomic.Bool // pebble opens the store
	stuck      atomic.Bool // and could not
	held       heldFiles
	flushes    atomic.Int32 // that the system failed, one after another
	failing    atomic.Int32 // that failed for whatever reason
	loading    atomic.Bool  // until the first write: a start wants all processors
}

// compactions is how many pebble may run side by side. While a start loads the
// windows, a usual backlog (what the log held, above all) can wait; where tables
// pile up pebble adds one to the lower bound.
func (h *health) compactions() (lower, upper int) {
	if h.loading.Load() {
		return 0, 1
	}
	return 1, 1
}

// err returns the failure after which nothing may be written, or nil.
func (h *health) err() error {
	if e := h.fatal.Load(); e != nil {
		return *e
	}
	return nil
}

func (h *health) fail(err error) {
	wrapped := fmt.Errorf("%w: %w", ErrFatal, err)
	if !h.fatal.CompareAndSwap(nil, &wrapped) {
		return
	}
	h.last.Store(&wrapped)
	h.log.Error("storage failed", "error", err)
	if h.onFatal != nil {
		h.onFatal(wrapped)
	}
}

// Infof implements pebble.Logger.
func (h *health) Infof(format string, args ...any) {
	h.log.Debug("pebble", "message", fmt.Sprintf(format, args...))
}

// Errorf implements pebble.Logger.
func (h *health) Errorf(format string, args ...any) {
	h.log.Warn("pebble", "message", fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger, whose default ends the process. Pebble
// relies on it not to return: anything but a failed commit parks its goroutine
// here for ever, because going on after a failed manifest write loses files.
func (h *health) Fatalf(format string, args ...any) {
	message, details, _ := strings.Cut(fmt.Sprintf(format, args...), "\n")
	if details != "" { // where in pebble it happened
		h.log.Debug("storage failed", "error", message, "details", details)
	}
	mine := strings.HasPrefix(message, commitFailure)
	first := !mine && !h.parked.Swap(true)
	h.fail(errors.New(message))
	if first {
		close(h.dead)
	}
	if !mine {
		select {}
	}
}

// guard calls pebble, and returns where that would wait for ever: for a goroutine
// that is parked, which may be the one that called.
func (h *health) guard(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-h.dead:
		if h.stuck.Load() {
			return fmt.Errorf("%w: what the log holds cannot be written to a table: %w", ErrCorrupt, *h.last.Load())
		}
		return h.err()
	}
}

func (h *health) backgroundError(err error) {
	h.background.Add(1)
	h.last.Store(&err)
	h.log.Warn("background work of the store failed", "error", err)
	if h.opening.Load() && !errors.Is(err, syscall.ENOSPC) && h.failing.Load() >= hopeless && !h.parked.Swap(true) {
		h.stuck.Store(true)
		close(h.dead)
		select {} // it would be repeated for ever, and the opening wait for it
	}
}

// hopeless is how many flushes may fail one after another while a store is opened.
const hopeless = 8

// hopelessFlushes is how many flushes may fail one after another: what is written
// then only fills memory and the log, and in the end a commit waits for ever.
const hopelessFlushes = 32

// flushed counts the flushes that fail, one after another: those that the system
// fails, but for want of room, which is waited for. Pebble waits meanwhile.
func (h *health) flushed(info pebble.FlushInfo) {
	if err := info.Err; err == nil || strings.Contains(err.Error(), "empty table") { // all that it held was deleted
		h.failing.Store(0)
	} else {
		h.failing.Add(1)
	}
	if _, failed := errors.AsType[syscall.Errno](info.Err); !failed || errors.Is(info.Err, syscall.ENOSPC) {
		h.flushes.Store(0)
		return
	}
	if h.flushes.Add(1) >= hopelessFlushes && !h.opening.Load() {
		h.fail(fmt.Errorf("cannot write tables: %w", info.Err))
	}
}

// corrupted takes note of a damaged file. Whoever reads from it gets an error; by
// itself pebble would end the process, for a part that nobody may ever ask for.
func (h *health) corrupted(info pebble.DataCorruptionInfo) {
	h.background.Add(1)
	if !h.corrupt.Swap(true) && h.found != nil {
		h.found()
	}
	err := fmt.Errorf("%w: file %q", ErrCorrupt, info.Path)
	if old := h.last.Swap(&err); old == nil || (*old).Error() != err.Error() {
		h.log.Error("a file of the store is damaged", "file", info.Path, "details", info.Details)
	}
}

// diskFull runs while every write of the file system waits.
func (h *health) diskFull() {
	if h.full.Add(1) == 1 {
		h.log.Error("no space left for the store")
	}
	if h.onFull != nil {
		h.onFull()
	}
	if h.space.drop() {
		return // there is room for a while
	}
	timer := time.NewTimer(fullPause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-h.closing:
	}
}

func pebbleOptions(o *Options, h *health, cache *pebble.Cache, layer *sealed.Layer) *pebble.Options {
	p := &pebble.Options{
		// A write that is repeated must not be encrypted twice: the layer is on top.
		FS: newGrowing(layer.Over(vfs.OnDiskFull(keeping{ordered{o.FS}, &h.held}, h.diskFull))),
		// From FormatWALSyncChunks on a damaged log is told from a torn tail.
		FormatMajorVersion:          pebble.FormatNewest,
		Cache:                       cache,
		MemTableSize:                o.MemTableBytes,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       32,
		WALBytesPerSync:             256 << 10,
		MaxOpenFiles:                256,
		Logger:                      h,
		EventListener:               &pebble.EventListener{BackgroundError: h.backgroundError, DataCorruption: h.corrupted, FlushEnd: h.flushed},
		CompactionConcurrencyRange:  h.compactions,
		FlushDelayDeleteRange:       10 * time.Second,
	}
	for i := range p.Levels {
		p.Levels[i].BlockSize = blockBytes
	}
	p.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	return p
}
