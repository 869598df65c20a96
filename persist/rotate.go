package persist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs/atomicfs"

	"github.com/velocimeter/velocimeter/persist/record"
	"github.com/velocimeter/velocimeter/persist/sealed"
)

const (
	// rotateEvery is the pause between two steps: history comes first.
	rotateEvery = time.Second
	// rotateRetry is the pause after a step that failed.
	rotateRetry = time.Minute
	// rotateTables are rewritten in a step.
	rotateTables = 4
)

// rotation rewrites the files that need a key other than the first, until none is
// left, and counts them. A nil rotation has nothing to do.
type rotation struct {
	files, bytes atomic.Int64
	cancel       context.CancelFunc
	done         chan struct{}
}

// left returns how many files still need an old key, and what they take.
func (r *rotation) left() (files, bytes int64) {
	if r == nil {
		return 0, 0
	}
	return r.files.Load(), r.bytes.Load()
}

func (r *rotation) set(old sealed.Files) {
	r.files.Store(int64(old.Count))
	r.bytes.Store(old.Bytes)
}

// stop ends the work and waits for that. It may be called again.
func (r *rotation) stop() {
	if r != nil {
		r.cancel()
		<-r.done
	}
}

// startRotation looks for files that need an old key and begins to rewrite them.
func (s *Store) startRotation(dir string) error {
	if s.layer == nil || s.readOnly {
		return nil
	}
	old, _, err := s.layer.Old(s.opts.FS, dir)
	if err != nil {
		return err
	}
	if old.Count == 0 {
		s.rotated()
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &rotation{cancel: cancel, done: make(chan struct{})}
	r.set(old)
	s.rotate = r
	s.log.Info("files need an old key, or are plain: they are rewritten", "files", old.Count, "bytes", old.Bytes)
	go func() {
		defer close(r.done)
		s.rewriteAll(ctx, dir)
	}()
	return nil
}

// rewriteAll goes on until no file needs an old key.
func (s *Store) rewriteAll(ctx context.Context, dir string) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		old, names, err := s.layer.Old(s.opts.FS, dir)
		if err == nil {
			s.rotate.set(old)
			if old.Count == 0 {
				s.rotated()
				return
			}
			err = errors.Join(s.rewriteSome(ctx, names), s.dropManifests(dir, names))
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("cannot rewrite files that need an old key", "error", err)
			if s.h.err() != nil {
				return
			}
			timer.Reset(rotateRetry)
			continue
		}
		timer.Reset(rotateEvery)
	}
}

// rotated says that old keys are not needed any more, as every start does while
// there are any: the process that saw the last file go may not have come to it.
func (s *Store) rotated() {
	if len(s.opts.Keys.IDs()) > 1 {
		s.log.Info("no file needs an old key any more: all but the first may leave the key file")
	}
}

// rewriteSome rewrites a few tables, and with them the manifest and the log. Pebble
// leaves a table alone that nothing above it overlaps, so each gets a neighbour that
// changes nothing.
func (s *Store) rewriteSome(ctx context.Context, names []string) error {
	keys, err := s.firstKeys(names)
	if err != nil {
		return err
	}
	if paused, err := s.touch(keys); err != nil || paused {
		return err
	}
	flushed, err := s.db.AsyncFlush()
	if err != nil {
		return fmt.Errorf("cannot flush: %w", err)
	}
	select {
	case <-flushed:
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, key := range keys {
		if err := s.db.Compact(ctx, key, append(bytes.Clone(key), 0), false); err != nil {
			return fmt.Errorf("cannot compact: %w", err)
		}
	}
	return nil
}

// dropManifests removes the old manifests among files that need an old key. Pebble
// keeps one behind the current one and never reads it.
func (s *Store) dropManifests(dir string, names []string) error {
	current, err := atomicfs.ReadMarker(s.opts.FS, dir, "manifest")
	if err != nil || current == "" {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "MANIFEST-") || name == current {
			continue
		}
		if err := s.opts.FS.Remove(s.opts.FS.PathJoin(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("cannot remove an old manifest: %w", err)
		}
	}
	return nil
}

// firstKeys returns the first keys of some of the named tables, as far as they are
// in use.
func (s *Store) firstKeys(names []string) (keys [][]byte, err error) {
	levels, err := s.db.SSTables()
	if err != nil {
		return nil, fmt.Errorf("cannot list tables: %w", err)
	}
	for _, tables := range levels {
		for i := range tables {
			t := &tables[i]
			if len(keys) < rotateTables && slices.Contains(names, t.BackingSSTNum.String()+".sst") {
				keys = append(keys, bytes.Clone(t.Smallest.UserKey))
			}
		}
	}
	return keys, nil
}

// touch writes what is there already: the values of keys, a meta record and the mark.
func (s *Store) touch(keys [][]byte) (paused bool, err error) {
	s.writer.Lock()
	defer s.writer.Unlock()
	if err := s.writable(); err != nil {
		return false, err
	}
	if s.roomy() != nil {
		return true, nil
	}
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }()
	for _, key := range append(keys, record.MetaKey(record.MetaEpoch)) {
		value, closer, err := s.db.Get(key)
		switch {
		case errors.Is(err, pebble.ErrNotFound):
			err = b.Delete(key, nil)
		case err == nil:
			err = errors.Join(b.Set(key, value, nil), closer.Close())
		}
		if err != nil {
			return false, fmt.Errorf("cannot touch a table: %w", err)
		}
	}
	if err := s.apply(b, pebble.Sync); err != nil {
		return false, err
	}
	return false, s.promised(s.durable.Load().seq, false)
}
