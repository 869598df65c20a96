package persist

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/persist/record"
	"github.com/velocimeter/velocimeter/persist/sealed"
)

// Errors of Restore.
var (
	// ErrNoBackup says that a folder is no finished backup.
	ErrNoBackup = errors.New("no finished backup is there")
	// ErrExists says that the lineage is there already.
	ErrExists = errors.New("the lineage exists")
)

// Restored is what Restore did.
type Restored struct {
	Lineage string
	Epoch   string // the new one
	Seq     uint64 // newest tick that is there
	Aside   string // where the lineage went that was there; "" for none
}

// Restore verifies a backup and copies it into the data folder o.Dir as its
// lineage, under a new epoch: what was published after the backup may come again
// under the same seqs. o.Lineage is ignored; o.Fresh allows to replace a lineage,
// which is set aside, never deleted. A crash leaves the lineage as it was or
// restored. Errors: ErrNoBackup, ErrCorrupt, ErrKey, ErrLocked, ErrExists, the file
// system's, the context's.
func Restore(ctx context.Context, backup string, o Options, c Checks) (r *Restored, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot restore backup %q: %w", backup, err)
		}
	}()
	o.Lineage = "unknown" // until the manifest says
	if o, err = o.withDefaults(); err != nil {
		return nil, err
	}
	rep, err := Verify(ctx, VerifyOptions{Dir: backup, FS: o.FS, Keys: o.Keys, Checks: c})
	switch {
	case errors.Is(err, ErrNoStore):
		return nil, fmt.Errorf("%w (%w)", ErrNoBackup, err)
	case err != nil:
		return nil, err
	case !rep.Sound():
		return nil, fmt.Errorf("%w; `velocimeter verify` lists them", rep.unsound())
	case rep.Backup == nil:
		return nil, fmt.Errorf("%w: it has no manifest", ErrNoBackup)
	}
	o.Lineage = rep.Backup.Lineage
	lock, err := lockDir(&o)
	if err != nil {
		return nil, err
	}
	r, err = restore(ctx, backup, &o, rep.Backup)
	return r, errors.Join(err, lock.Close())
}

// restore does it, with the data folder locked.
func restore(ctx context.Context, backup string, o *Options, m *Manifest) (*Restored, error) {
	// A lineage whose mending was cut short between two names is there.
	if err := errors.Join(finishMend(o), finishRestore(o)); err != nil {
		return nil, err
	}
	dir := o.FS.PathJoin(o.Dir, o.Lineage)
	_, err := o.FS.Stat(dir)
	there := err == nil
	switch {
	case there && !o.Fresh:
		return nil, fmt.Errorf("%w: %q; --force replaces it, and keeps it beside", ErrExists, dir)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	whole, partial := dir+restoreSuffix, dir+restoreSuffix+partialSuffix
	if err := errors.Join(o.FS.RemoveAll(partial), o.FS.RemoveAll(whole)); err != nil {
		return nil, err
	}
	r := &Restored{Lineage: o.Lineage, Epoch: newEpoch(), Seq: m.Seq}
	if err := r.copy(ctx, backup, partial, o, m); err != nil {
		return nil, errors.Join(err, o.FS.RemoveAll(partial))
	}
	if err := errors.Join(o.FS.Rename(partial, whole), syncDir(o.FS, o.Dir)); err != nil {
		return nil, err
	}
	if there {
		if r.Aside, err = setAside(o); err != nil {
			return nil, err
		}
	}
	return r, finishRestore(o)
}

// finishRestore gives a restored lineage its name. A start does so too: the
// process that restored it may have ended after it set the old one aside.
func finishRestore(o *Options) error {
	dir := o.FS.PathJoin(o.Dir, o.Lineage)
	if _, err := o.FS.Stat(dir + restoreSuffix); err != nil {
		return nil //nolint:nilerr // nothing was restored
	}
	if _, err := o.FS.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return err // it was not set aside, so it stays
	}
	if err := o.FS.Rename(dir+restoreSuffix, dir); err != nil {
		return fmt.Errorf("cannot put the restored lineage %q in place: %w", o.Lineage, err)
	}
	return syncDir(o.FS, o.Dir)
}

// copy copies the files, checks that they are those of the manifest, and makes
// the copy a lineage of its own.
func (r *Restored) copy(ctx context.Context, from, to string, o *Options, m *Manifest) error {
	names := make([]string, len(m.Files))
	for i := range m.Files {
		names[i] = m.Files[i].Name
	}
	files, err := copyStore(ctx, o.FS, from, to, names)
	if err != nil {
		return err
	}
	if !slices.Equal(files, m.Files) {
		return fmt.Errorf("%w: the copy is not what the manifest says", ErrCorrupt)
	}
	return r.adopt(to, o)
}

// adopt writes the new epoch, and that nothing is missing: with an epoch of its
// own the lineage goes on right behind the newest tick.
func (r *Restored) adopt(dir string, o *Options) (err error) {
	h := &health{log: o.Logger, space: newSpace(o), closing: make(chan struct{}), dead: make(chan struct{})}
	cache := pebble.NewCache(o.CacheBytes)
	defer cache.Unref()
	s := &Store{opts: *o, h: h}
	layer, err := sealed.Open(o.FS, dir, o.Keys)
	if err != nil {
		return err
	}
	if s.db, err = pebble.Open(dir, pebbleOptions(o, h, cache, layer)); err != nil {
		return err
	}
	h.letGo()
	defer func() {
		close(h.closing)
		if !h.parked.Load() {
			err = errors.Join(err, s.db.Close())
		}
	}()
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }()
	if err := s.setMeta(b, record.MetaEpoch, []byte(r.Epoch)); err != nil {
		return err
	}
	if err := s.setMeta(b, record.MetaClean, record.AppendNumbers(nil, r.Seq)); err != nil {
		return err
	}
	return s.apply(b, pebble.Sync)
}
