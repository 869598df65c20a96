package persist

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

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
	err := finishMend(o)
	if err == nil {
		_, err = finishRestore(o)
	}
	if err != nil {
		return nil, err
	}
	dir := o.FS.PathJoin(o.Dir, o.Lineage)
	there, err := exists(o.FS, dir)
	switch {
	case err != nil:
		return nil, err
	case there && !o.Fresh:
		return nil, fmt.Errorf("%w: %q; --force replaces it, and keeps it beside", ErrExists, dir)
	}
	whole, partial := dir+restoreSuffix, dir+restoreSuffix+partialSuffix
	if err := errors.Join(o.FS.RemoveAll(partial), o.FS.RemoveAll(whole)); err != nil {
		return nil, err
	}
	r := &Restored{Lineage: o.Lineage, Epoch: newEpoch(), Seq: m.Seq}
	if r.Aside, err = asideName(o); err != nil {
		return nil, err
	}
	if err := r.copy(ctx, backup, partial, o, m); err != nil {
		return nil, errors.Join(err, o.FS.RemoveAll(partial))
	}
	if err := r.decide(backup, partial, whole, o); err != nil {
		return nil, err
	}
	if there {
		if err := moveAside(o, r.Aside); err != nil {
			return nil, err
		}
	}
	if left, err := finishRestore(o); err != nil || left {
		return nil, errors.Join(err, fmt.Errorf("cannot put the restored lineage %q in place", o.Lineage))
	}
	return r, nil
}

// restoredFile in a restored lineage's folder says of which backup it is, and what
// has to be set aside before it may be put in place.
const restoredFile = "RESTORED"

// restoration is what it says.
type restoration struct {
	At      time.Time `json:"at"`
	Backup  string    `json:"backup"`
	Lineage string    `json:"lineage"`
	Epoch   string    `json:"epoch"`
	Seq     uint64    `json:"seq"`
	Aside   string    `json:"aside"` // the folder of the lineage that was there; empty: none was
}

// decide says in a copy that is whole what may be done with it, and gives it its
// name.
func (r *Restored) decide(backup, partial, whole string, o *Options) error {
	say := restoration{At: time.Now().UTC(), Backup: backup, Lineage: r.Lineage, Epoch: r.Epoch, Seq: r.Seq}
	if r.Aside != "" {
		say.Aside = o.FS.PathBase(r.Aside)
	}
	text, err := json.MarshalIndent(say, "", "\t")
	if err != nil {
		return fmt.Errorf("BUG: a restoration: %w", err)
	}
	if err := writeFile(o.FS, o.FS.PathJoin(partial, restoredFile), append(text, '\n')); err != nil {
		return errors.Join(err, o.FS.RemoveAll(partial))
	}
	if err := syncDir(o.FS, partial); err != nil {
		return errors.Join(err, o.FS.RemoveAll(partial))
	}
	if err := o.FS.Rename(partial, whole); err != nil {
		return errors.Join(err, o.FS.RemoveAll(partial))
	}
	return syncDir(o.FS, o.Dir)
}

// tidyRestore ends a restore that was cut short, before a start.
func tidyRestore(o *Options) error {
	whole := o.FS.PathJoin(o.Dir, o.Lineage+restoreSuffix)
	if err := o.FS.RemoveAll(whole + partialSuffix); err != nil {
		o.Logger.Warn("cannot remove an unfinished restore", "folder", whole+partialSuffix, "error", err)
	}
	left, err := finishRestore(o)
	if left {
		o.Logger.Warn("a restore was ended before it replaced the lineage, and what it made is not used: repeat `velocimeter restore`, or remove the folder", "lineage", o.Lineage, "folder", whole)
	}
	return err
}

// finishRestore gives a restored lineage its name, if the process that made it has
// set aside what was there (or nothing was) and came no further. A copy that was
// made before that is left, and will not be put in place any more: the lineage
// beside it goes on, and is newer.
func finishRestore(o *Options) (left bool, err error) {
	dir := o.FS.PathJoin(o.Dir, o.Lineage)
	whole := dir + restoreSuffix
	if there, err := exists(o.FS, whole); err != nil || !there {
		return false, err
	}
	living, err := exists(o.FS, dir)
	if err != nil {
		return false, err
	}
	say := o.FS.PathJoin(whole, restoredFile)
	if living {
		if err := o.FS.Remove(say); err != nil && !errors.Is(err, os.ErrNotExist) {
			return true, fmt.Errorf("cannot call a restore off: %w", err)
		}
		return true, syncDir(o.FS, whole)
	}
	if free, err := mayInstall(o, say); err != nil || !free {
		return err == nil, err
	}
	if err := o.FS.Rename(whole, dir); err != nil {
		return false, fmt.Errorf("cannot put the restored lineage %q in place: %w", o.Lineage, err)
	}
	return false, syncDir(o.FS, o.Dir)
}

// maxRestoration bounds what is read of what a restore left, in bytes.
const maxRestoration = 4 << 10

// mayInstall reports whether a restored lineage may take its place: what was there
// has been set aside by the restore, not by somebody else.
func mayInstall(o *Options, say string) (bool, error) {
	data, _, err := looseRead(o.FS, say, maxRestoration)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot read %q: %w", say, err)
	}
	var r restoration
	if err := json.Unmarshal(data, &r); err != nil || r.Lineage != o.Lineage {
		return false, nil //nolint:nilerr // it says nothing, so nothing is done
	}
	if r.Aside == "" {
		return true, nil
	}
	return exists(o.FS, o.FS.PathJoin(o.Dir, r.Aside))
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
	if s.db, err = openPebble(dir, pebbleOptions(o, h, cache, layer), h); err != nil {
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
