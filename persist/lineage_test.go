package persist

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// unlockable is a file system whose locks fail.
type unlockable struct {
	vfs.FS
	err error
}

func (u unlockable) Lock(string) (io.Closer, error) { return nil, u.err }

// Only a lock that another holds is "in use by another process".
func TestLockErrors(t *testing.T) {
	f := func(err error, locked bool) {
		t.Helper()
		_, got := Open(testOptions(unlockable{vfs.NewMem(), err}))
		if !errors.Is(got, err) || errors.Is(got, ErrLocked) != locked {
			t.Errorf("Open = %v; held by another: %v, want %v", got, errors.Is(got, ErrLocked), locked)
		}
	}
	f(syscall.EAGAIN, true)
	f(syscall.EACCES, true)
	f(fmt.Errorf("cannot lock: %w", syscall.EAGAIN), true)
	f(errors.New("lock held by current process"), true)
	f(syscall.ENOLCK, false)
	f(syscall.EOPNOTSUPP, false)
	f(syscall.EIO, false)
	f(&fs.PathError{Op: "open", Path: "LOCK", Err: syscall.EACCES}, false)
	f(errors.New("something new"), false)
}
