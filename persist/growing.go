package persist

import (
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// growing is a file system on which a log that is still written is read as it was
// when it was opened. A backup copies it while it grows, part after part: into a
// file that is used again the writer may put what lies behind a part that was
// copied before it was overwritten, and on an encrypted one the last frame may be
// read half and those behind it whole. Either looks like damage.
type growing struct {
	vfs.FS
	logs *sync.Map // of path: *atomic.Int64, bytes written to a log that is open
}

func newGrowing(fs vfs.FS) growing { return growing{FS: fs, logs: &sync.Map{}} }

// Create implements vfs.FS.
func (g growing) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return g.begin(name, func() (vfs.File, error) { return g.FS.Create(name, category) })
}

// ReuseForWrite implements vfs.FS.
func (g growing) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return g.begin(newname, func() (vfs.File, error) { return g.FS.ReuseForWrite(oldname, newname, category) })
}

// begin takes note of a log before it is there.
func (g growing) begin(name string, open func() (vfs.File, error)) (vfs.File, error) {
	if !strings.HasSuffix(name, ".log") {
		return open()
	}
	w := &growingWriter{name: name, logs: g.logs}
	g.logs.Store(name, &w.written)
	var err error
	if w.File, err = open(); err != nil {
		g.logs.Delete(name)
		return nil, err
	}
	return w, nil
}

// Open implements vfs.FS.
func (g growing) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	log, ok := g.logs.Load(name)
	if !ok {
		return g.FS.Open(name, opts...)
	}
	end := log.(*atomic.Int64).Load()
	if end == 0 { // what lies there is of the log before, or being written
		return vfs.NewMemFile(nil), nil
	}
	f, err := g.FS.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	return &growingReader{f, end}, nil
}

// Unwrap implements vfs.FS.
func (g growing) Unwrap() vfs.FS { return g.FS }

// growingWriter counts what was written.
type growingWriter struct {
	vfs.File
	name    string
	logs    *sync.Map
	written atomic.Int64
}

// Write implements vfs.File.
func (w *growingWriter) Write(p []byte) (int, error) {
	n, err := w.File.Write(p)
	w.written.Add(int64(n))
	return n, err
}

// WriteAt implements vfs.File: a log only grows.
func (w *growingWriter) WriteAt([]byte, int64) (int, error) { return 0, vfs.ErrUnsupported }

// Close implements vfs.File.
func (w *growingWriter) Close() error {
	defer w.logs.Delete(w.name)
	return w.File.Close()
}

// growingReader reads up to an end, and never touches what is behind it.
type growingReader struct {
	vfs.File
	left int64
}

// Read implements vfs.File.
func (r *growingReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.File.Read(p[:min(int64(len(p)), r.left)])
	if r.left -= int64(n); errors.Is(err, io.EOF) && r.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// ReadAt implements vfs.File: a log is read from the front.
func (r *growingReader) ReadAt([]byte, int64) (int, error) { return 0, vfs.ErrUnsupported }
