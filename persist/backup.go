package persist

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/persist/sealed"
)

// Errors of backups.
var (
	// ErrBusy says that a backup of this store is being made already.
	ErrBusy = errors.New("a backup is being made already")
	// ErrSpace says that the disk has no room for a backup.
	ErrSpace = errors.New("not enough space")
)

// Backup is a finished backup.
type Backup struct {
	Dir string // its folder
	Manifest
	Took time.Duration // to make it; 0 where it was found
}

// spareBytes must be left on the disk of the backups: the store may be on it too.
const spareBytes = 256 << 20

// Suffixes of folders that are not what their name says yet.
const (
	partialSuffix    = ".partial"    // of a backup, or a restored lineage, that is not whole
	checkpointSuffix = ".checkpoint" // of a lineage: files that a backup is made of
	restoreSuffix    = ".restore"    // of a lineage: a restored one, whole, on its way
)

// Backup copies the store as it is now into a new folder below dir, verifies the
// copy, and gives it its name last: <lineage>-<UTC time>-<seq>. The store goes on
// meanwhile. Errors: ErrBusy, ErrSpace, ErrClosed, ErrFatal, ErrCorrupt where the
// copy does not verify (nothing of it is kept), the file system's, the context's.
func (s *Store) Backup(ctx context.Context, dir string, c Checks) (*Backup, error) {
	if !s.backing.CompareAndSwap(false, true) {
		return nil, fmt.Errorf("cannot back up lineage %q: %w", s.opts.Lineage, ErrBusy)
	}
	defer s.backing.Store(false)
	from := s.opts.FS.PathJoin(s.opts.Dir, s.opts.Lineage+checkpointSuffix)
	err := s.gapless(ctx)
	durable := s.durable.Load().seq // before the picture is taken: it holds at least that
	if err == nil {
		err = s.checkpoint(from)
	}
	var b *Backup
	if err == nil {
		b, err = makeBackup(ctx, &s.opts, from, dir, durable, c)
	}
	if err := errors.Join(err, s.opts.FS.RemoveAll(from)); err != nil {
		return nil, fmt.Errorf("cannot back up lineage %q: %w", s.opts.Lineage, err)
	}
	return b, nil
}

const (
	// gapFor is how long a backup waits for the state that tells of a gap; the
	// engine makes one within seconds.
	gapFor   = 30 * time.Second
	gapEvery = 50 * time.Millisecond
)

// gapless waits until a state tells of the ticks that there was no space for: a
// copy without it could not go on across them.
func (s *Store) gapless(ctx context.Context) error {
	ticker, end := time.NewTicker(gapEvery), time.NewTimer(gapFor)
	defer ticker.Stop()
	defer end.Stop()
	for {
		s.writer.Lock()
		gaps := len(s.skipped)
		s.writer.Unlock()
		if gaps == 0 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.life.Done():
			return ErrClosed
		case <-end.C:
			return fmt.Errorf("%w: history was paused for want of it, and the state that is to tell of the gap is not saved yet", ErrSpace)
		}
	}
}

// checkpoint takes a picture of the store: links to files that never change, and
// copies of those that do. Only this keeps the store from being closed.
func (s *Store) checkpoint(to string) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case s.closed:
		return ErrClosed
	case s.h.err() != nil:
		return s.h.err()
	}
	if err := s.opts.FS.RemoveAll(to); err != nil { // of a process that crashed
		return err
	}
	return s.db.Checkpoint(to, pebble.WithFlushedWAL())
}

// BackupLineage does what Store.Backup does for a lineage that no process uses;
// it is not opened for writing, and the data folder is locked meanwhile, but where
// its disk cannot be written to. Errors:
// ErrLocked and those of Store.Backup.
func BackupLineage(ctx context.Context, o Options, dir string, c Checks) (b *Backup, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot back up lineage %q: %w", o.Lineage, err)
		}
	}()
	if o, err = o.withDefaults(); err != nil {
		return nil, err
	}
	from := o.FS.PathJoin(o.Dir, o.Lineage)
	if _, err := o.FS.Stat(from); err != nil {
		return nil, err
	}
	lock, err := lockDir(&o)
	if errors.Is(err, syscall.EROFS) { // nobody can be writing there
		lock, err = nothing{}, nil
	}
	if err != nil {
		return nil, err
	}
	durable, err := promisedIn(&o, from)
	if err == nil {
		b, err = makeBackup(ctx, &o, from, dir, durable, c)
	}
	return b, errors.Join(err, lock.Close())
}

// promisedIn returns the newest seq that MARK calls durable; 0 where there is none.
func promisedIn(o *Options, dir string) (durable uint64, err error) {
	layer, err := sealed.Open(o.FS, dir, o.Keys)
	if err != nil {
		return 0, sealedError(err)
	}
	m, _, err := openMarker(layer.Over(o.FS), dir, true)
	if err != nil || m == nil {
		return 0, err
	}
	return m.last.durable, m.close()
}

// makeBackup copies a store that nobody writes to. Ticks up to durable must be in
// the copy.
func makeBackup(ctx context.Context, o *Options, from, dir string, durable uint64, c Checks) (*Backup, error) {
	began, files, lineage := time.Now(), o.FS, o.Lineage
	names, err := storeFiles(files, from)
	if err != nil {
		return nil, err
	}
	if err := backupRoom(files, dir); err != nil {
		return nil, err
	}
	if err := removePartial(files, dir, lineage); err != nil {
		return nil, err
	}
	if err := enough(files, from, dir, names); err != nil {
		return nil, err
	}
	stamp := lineage + "-" + began.UTC().Format("20060102T150405.000Z")
	partial := files.PathJoin(dir, stamp+partialSuffix)
	b := &Backup{Manifest: Manifest{Format: backupFormat, Lineage: lineage, Made: began.UTC().Truncate(time.Millisecond)}}
	if err := b.fill(ctx, o, from, partial, names, durable, c); err != nil {
		return nil, errors.Join(unfinished(err, partial), files.RemoveAll(partial))
	}
	b.Dir = files.PathJoin(dir, fmt.Sprintf("%s-%d", stamp, b.Seq))
	if err := errors.Join(files.Rename(partial, b.Dir), syncDir(files, dir)); err != nil {
		return nil, err
	}
	b.Took = time.Since(began)
	return b, nil
}

// backupRoom makes the folder of the backups where it is not there.
func backupRoom(files vfs.FS, dir string) error {
	info, err := files.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		err = syscall.ENOTDIR
	case errors.Is(err, os.ErrNotExist):
		err = makeDir(files, dir)
	}
	if errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("cannot use %q for backups: it is a file, or lies below one; set backup.dir to a folder: %w", dir, err)
	}
	if err != nil {
		return fmt.Errorf("cannot use %q for backups: %w; set backup.dir to a folder that can be written to", dir, err)
	}
	return nil
}

// unfinishedError is of a backup that got no name: it tells the one that it would
// have had.
type unfinishedError struct {
	error
	text string
}

func (e unfinishedError) Error() string { return e.text }
func (e unfinishedError) Unwrap() error { return e.error }

func unfinished(err error, partial string) error {
	name := strings.TrimSuffix(partial, partialSuffix)
	text := strings.ReplaceAll(err.Error(), partial, name)
	if errors.Is(err, ErrCorrupt) {
		text = fmt.Sprintf("the copy %q did not verify and is removed: %s; `velocimeter verify` lists what is wrong with the lineage, and a start mends it", name, text)
	}
	if errors.Is(err, syscall.ENOSPC) {
		err, text = errors.Join(ErrSpace, err), fmt.Sprintf("%v: %s; make room or set backup.dir to another disk", ErrSpace, text)
	}
	return unfinishedError{err, text}
}

// fill makes the copy, verifies it and writes its manifest.
func (b *Backup) fill(ctx context.Context, o *Options, from, to string, names []string, durable uint64, c Checks) (err error) {
	files := o.FS
	if b.Files, err = copyStore(ctx, files, from, to, names); err != nil {
		return err
	}
	rep, err := Verify(ctx, VerifyOptions{Dir: to, FS: files, Keys: o.Keys, Checks: c})
	if err != nil {
		return err
	}
	if err := rep.unsound(); err != nil {
		return err
	}
	if rep.newest < durable {
		return fmt.Errorf("%w: the copy ends with tick %d, ticks up to %d were durable", ErrCorrupt, rep.newest, durable)
	}
	b.Epoch, b.Seq, b.Time = rep.Epoch, rep.DurableSeq, int64(rep.Time)
	for i := range rep.Kinds {
		b.Records += rep.Kinds[i].Records
	}
	for i := range b.Files {
		b.Bytes += b.Files[i].Size
	}
	data, err := b.encode()
	if err != nil {
		return err
	}
	if err := errors.Join(writeFile(files, files.PathJoin(to, manifestFile), data), syncDir(files, to)); err != nil {
		return err
	}
	return checkFiles(ctx, files, to)
}

// checkFiles reads a backup's files again and holds them against its manifest.
func checkFiles(ctx context.Context, files vfs.FS, dir string) error {
	names, err := files.List(dir)
	if err != nil {
		return err
	}
	v := &verifier{ctx: ctx, o: &VerifyOptions{Dir: dir, FS: files}, rep: &Report{}}
	if v.files(names); v.err == nil {
		v.err = v.rep.unsound()
	}
	return v.err
}

// enough reports whether the disk has room for the files and some to spare. A
// file system that cannot say is taken to have.
func enough(files vfs.FS, from, to string, names []string) error {
	usage, err := files.GetDiskUsage(to)
	if err != nil {
		return nil //nolint:nilerr // it cannot say
	}
	need := uint64(spareBytes)
	for _, name := range names {
		info, err := files.Stat(files.PathJoin(from, name))
		if err != nil {
			return err
		}
		need += uint64(info.Size())
	}
	if usage.AvailBytes < need {
		return fmt.Errorf("%w in %q: %d bytes are free, %d are needed; make room or set backup.dir to another disk", ErrSpace, to, usage.AvailBytes, need)
	}
	return nil
}

// TidyBackups removes what a process that crashed left of a lineage's backups.
// Nobody may be making one. files may be nil.
func TidyBackups(files vfs.FS, dir, lineage string) error {
	if files == nil {
		files = vfs.Default
	}
	if there, err := exists(files, dir); err == nil && !there {
		return nil
	}
	if err := removePartial(files, dir, lineage); err != nil {
		return fmt.Errorf("cannot remove unfinished backups in %q: %w", dir, err)
	}
	return nil
}

// removePartial removes what a process that crashed left of a lineage's backups.
func removePartial(files vfs.FS, dir, lineage string) error {
	names, err := files.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if rest, ok := strings.CutPrefix(name, lineage+"-2"); ok && strings.HasSuffix(rest, partialSuffix) {
			err = errors.Join(err, files.RemoveAll(files.PathJoin(dir, name)))
		}
	}
	return err
}

// Backups lists the finished backups of a lineage, oldest first; a folder whose
// manifest does not check out is none. files may be nil.
func Backups(files vfs.FS, dir, lineage string) (list []Backup, err error) {
	if files == nil {
		files = vfs.Default
	}
	if there, err := exists(files, dir); err == nil && !there {
		return nil, nil
	}
	if err := backupRoom(files, dir); err != nil {
		return nil, err
	}
	names, err := files.List(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot list the backups in %q: %w", dir, err)
	}
	for _, name := range names {
		path := files.PathJoin(dir, name)
		if !strings.HasPrefix(name, lineage+"-") || strings.HasSuffix(name, partialSuffix) {
			continue
		}
		if m, err := readManifest(files, path); err == nil && m.Lineage == lineage {
			list = append(list, Backup{Dir: path, Manifest: *m})
		}
	}
	slices.SortFunc(list, func(a, b Backup) int { return a.Made.Compare(b.Made) })
	return list, nil
}

// Prune removes the oldest backups of a lineage beyond keep, and those made more
// than age ago (0: however old), but never the newest. It returns what it
// removed. files may be nil.
func Prune(files vfs.FS, dir, lineage string, keep int, age time.Duration, now time.Time) (gone []string, err error) {
	if files == nil {
		files = vfs.Default
	}
	list, err := Backups(files, dir, lineage)
	if err != nil {
		return nil, err
	}
	// Those of which the clock says that they are not made yet are older than its
	// being set right.
	slices.SortStableFunc(list, func(a, b Backup) int {
		x, y := a.Made.After(now), b.Made.After(now)
		switch {
		case x == y:
			return 0
		case x:
			return -1
		}
		return 1
	})
	for i := range list {
		newest := i == len(list)-1
		if newest || len(list)-i <= keep && (age == 0 || now.Sub(list[i].Made) <= age) {
			continue
		}
		// What is half removed must not be taken for a backup.
		partial := list[i].Dir + partialSuffix
		if err := files.Rename(list[i].Dir, partial); err != nil && !errors.Is(err, os.ErrNotExist) {
			return gone, fmt.Errorf("cannot remove backup %q: %w", list[i].Dir, err)
		}
		if err := files.RemoveAll(partial); err != nil {
			return gone, fmt.Errorf("cannot remove backup %q: %w", list[i].Dir, err)
		}
		gone = append(gone, list[i].Dir)
	}
	return gone, nil
}
