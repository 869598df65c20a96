package persist

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guarded ends a long read when nobody waits for it any more.
type guarded struct {
	ctx context.Context
	r   io.Reader
}

func (g guarded) Read(p []byte) (int, error) {
	if err := g.ctx.Err(); err != nil {
		return 0, err
	}
	return g.r.Read(p)
}

// copyBuffer is read and written at once, in bytes.
const copyBuffer = 1 << 20

// storeFile matches the names of a store's files that a copy needs: all but the
// lock and what is not finished.
var storeFile = regexp.MustCompile(`^(OPTIONS-[0-9]+|MANIFEST-[0-9]+|CURRENT|marker\.[A-Za-z0-9.-]+|[0-9]+(-[0-9]+)?\.(log|sst|blob))$`)

// copyStore copies the named files of a folder into a new one, each synced, and
// returns what was written.
func copyStore(ctx context.Context, files vfs.FS, from, to string, names []string) (list []File, err error) {
	if err := makeDir(files, to); err != nil {
		return nil, err
	}
	buf := make([]byte, copyBuffer)
	for _, name := range names {
		f, err := copyFile(ctx, files, files.PathJoin(from, name), files.PathJoin(to, name), buf)
		if err != nil {
			return nil, fmt.Errorf("cannot copy %q: %w", files.PathJoin(from, name), err)
		}
		f.Name = name
		list = append(list, f)
	}
	return list, syncDir(files, to)
}

func copyFile(ctx context.Context, files vfs.FS, from, to string, buf []byte) (f File, err error) {
	src, err := files.Open(from, vfs.SequentialReadsOption)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dst, err := files.Create(to, vfs.WriteCategoryUnspecified)
	if err != nil {
		return f, err
	}
	// Synced bit by bit: what waits for the disk at the end is little, and the
	// store's own syncs do not wait behind all of it.
	dst = vfs.NewSyncingFile(dst, vfs.SyncingFileOptions{BytesPerSync: copyBuffer})
	h := sha256.New()
	// The checksum comes first: a vfs.File may change what it is given to write.
	f.Size, err = io.CopyBuffer(io.MultiWriter(h, dst), guarded{ctx, src}, buf)
	if err == nil {
		err = dst.Sync()
	}
	f.SHA256 = hex.EncodeToString(h.Sum(nil))
	return f, errors.Join(err, dst.Close())
}

// storeFiles lists the files of a store in a folder.
func storeFiles(files vfs.FS, dir string) (names []string, err error) {
	all, err := files.List(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range all {
		if storeFile.MatchString(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// writeFile writes a small file and syncs it.
func writeFile(files vfs.FS, name string, data []byte) error {
	f, err := files.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
