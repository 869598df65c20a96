package persist

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// ballastFile holds room in the data folder that is given up when a write
	// finds none: what must be written then can be.
	ballastFile = "BALLAST"
	// spaceEvery is how long a look at the free space is good for.
	spaceEvery = 250 * time.Millisecond
)

// space knows how much room the disk has. A store that ran into a full disk could
// write nothing more until the next start, so it stops before: history pauses,
// with what is left kept for seqs, which the live stream cannot go without.
type space struct {
	fs      vfs.FS // beneath what waits for room
	dir     string
	ballast string // path of the ballast
	log     *slog.Logger
	least   uint64 // free bytes below which history pauses; 0: never
	size    int64  // of the ballast; 0: none
	held    atomic.Bool
	low     atomic.Bool
	free    atomic.Uint64
	looked  time.Time // the writer's
}

func newSpace(o *Options) *space {
	return &space{
		fs: o.FS, dir: o.Dir, ballast: o.FS.PathJoin(o.Dir, ballastFile), log: o.Logger,
		least: uint64(o.MinFreeBytes), size: o.BallastBytes,
	}
}

// open finds a ballast that an earlier process left.
func (p *space) open() {
	_, err := p.fs.Stat(p.ballast)
	p.held.Store(err == nil)
}

// look finds out how much is free, at most every spaceEvery. A file system that
// cannot tell has room. Only the writer calls it.
func (p *space) look(now time.Time) {
	if now.Sub(p.looked) < spaceEvery && !p.looked.IsZero() {
		return
	}
	p.looked = now
	u, err := p.fs.GetDiskUsage(p.dir)
	if err != nil {
		p.low.Store(false)
		return
	}
	p.free.Store(u.AvailBytes)
	// To pause and go on with every byte would write the state each time.
	enough := p.least + p.least/4
	switch {
	case u.AvailBytes < p.least && !p.low.Swap(true):
		p.log.Error("history is paused: the disk is nearly full", "folder", p.dir, "free_bytes", u.AvailBytes, "min_free_bytes", p.least)
	case u.AvailBytes >= enough && p.low.Swap(false):
		p.log.Info("history goes on: the disk has room again", "folder", p.dir, "free_bytes", u.AvailBytes)
	}
	if p.size > 0 && !p.held.Load() && u.AvailBytes >= enough+uint64(p.size) {
		p.fill()
	}
}

// err says why nothing may be written that is not needed to stay alive, or nil.
func (p *space) err() error {
	if !p.low.Load() {
		return nil
	}
	return fmt.Errorf("%w: the disk of %q has %d bytes left, %d are to stay free; history goes on when there are %d",
		ErrNoSpace, p.dir, p.free.Load(), p.least, p.least+p.least/4)
}

// fill makes the ballast. A file system that cannot set room aside has none.
func (p *space) fill() {
	f, err := p.fs.Create(p.ballast, vfs.WriteCategoryUnspecified)
	if err == nil {
		err = errors.Join(f.Preallocate(0, p.size), f.Sync(), f.Close())
	}
	if err != nil {
		p.log.Warn("no ballast can be kept", "file", p.ballast, "error", err)
		p.size = 0
		if err := p.fs.Remove(p.ballast); err != nil && !errors.Is(err, os.ErrNotExist) {
			p.log.Warn("cannot remove what there is of the ballast", "file", p.ballast, "error", err)
		}
		return
	}
	p.held.Store(true)
}

// drop gives the ballast up and reports whether there was one. It is called from
// any goroutine, with every write waiting.
func (p *space) drop() bool {
	if !p.held.Swap(false) {
		return false
	}
	if err := p.fs.Remove(p.ballast); err != nil {
		p.log.Error("cannot give the ballast up", "file", p.ballast, "error", err)
		return false
	}
	p.log.Warn("the disk is full: the ballast was given up", "bytes", p.size)
	return true
}
