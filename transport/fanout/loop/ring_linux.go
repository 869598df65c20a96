package loop

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Numbers of io_uring, from the kernel's linux/io_uring.h; the system calls have
// the same ones on every processor.
const (
	sysSetup = 425
	sysEnter = 426

	setupCoopTaskrun = 1 << 8 // Linux 5.19; the ring belongs to no thread
	enterGetEvents   = 1 << 0
	featSingleMmap   = 1 << 0
	offsetRings      = 0
	offsetEntries    = 0x10000000
	opSend           = 26
)

// submission and completion are as the kernel has them.
type submission struct {
	op, flags uint8
	priority  uint16
	fd        int32
	offset    uint64
	addr      uint64
	size      uint32
	msgFlags  uint32
	tag       uint64
	_         [24]byte
}

type completion struct {
	tag    uint64
	result int32
	flags  uint32
}

type ringOffsets struct {
	head, tail, mask, entries, flags, dropped, array uint32
	_                                                uint32
	_                                                uint64
}

// completionOffsets differ from ringOffsets in what comes after entries.
type completionOffsets struct {
	head, tail, mask, entries, overflow, entriesAt, flags uint32
	_                                                     uint32
	_                                                     uint64
}

type setupParams struct {
	submissions, completions, flags       uint32
	threadCPU, threadIdle, features, wqFD uint32
	_                                     [3]uint32
	sq                                    ringOffsets
	cq                                    completionOffsets
}

// uring is an io_uring that sends. One goroutine uses it at a time.
type uring struct {
	file           *os.File
	fd             uintptr
	rings, entries []byte // mapped
	sqHead, sqTail *uint32
	cqHead, cqTail *uint32
	submissions    []submission
	completions    []completion
	tail           uint32
	enter          func(fd uintptr, submit, wait uint32) syscall.Errno
}

// newUring makes one for batches of the given size, a power of two.
func newUring(batch uint32) (*uring, error) {
	p := setupParams{flags: setupCoopTaskrun}
	fd, _, errno := syscall.Syscall(sysSetup, uintptr(batch), uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("cannot set up io_uring: %w", errno)
	}
	u := &uring{file: os.NewFile(fd, "io_uring"), fd: fd, enter: enter}
	if err := u.attach(&p); err != nil {
		_ = u.file.Close()
		return nil, err
	}
	runtime.AddCleanup(u, func(maps [2][]byte) {
		_ = syscall.Munmap(maps[0])
		_ = syscall.Munmap(maps[1])
	}, [2][]byte{u.rings, u.entries})
	return u, nil
}

// attach maps what the kernel shares.
func (u *uring) attach(p *setupParams) (err error) {
	if p.features&featSingleMmap == 0 {
		return errors.New("cannot map io_uring: the kernel is too old")
	}
	size := max(int(p.cq.entriesAt)+int(p.completions)*int(unsafe.Sizeof(completion{})), int(p.sq.array)+4*int(p.submissions))
	const access, kind = syscall.PROT_READ | syscall.PROT_WRITE, syscall.MAP_SHARED | syscall.MAP_POPULATE
	if u.rings, err = syscall.Mmap(int(u.fd), offsetRings, size, access, kind); err != nil {
		return fmt.Errorf("cannot map the rings: %w", err)
	}
	u.entries, err = syscall.Mmap(int(u.fd), offsetEntries, int(p.submissions)*int(unsafe.Sizeof(submission{})), access, kind)
	if err != nil {
		_ = syscall.Munmap(u.rings)
		return fmt.Errorf("cannot map the entries: %w", err)
	}
	u.submissions = unsafe.Slice((*submission)(unsafe.Pointer(&u.entries[0])), p.submissions)
	u.completions = unsafe.Slice((*completion)(unsafe.Pointer(&u.rings[p.cq.entriesAt])), p.completions)
	u.sqHead, u.sqTail, u.cqHead, u.cqTail = u.word(p.sq.head), u.word(p.sq.tail), u.word(p.cq.head), u.word(p.cq.tail)
	for i := range p.submissions { // the entries are submitted in their order
		*u.word(p.sq.array + 4*i) = i
	}
	return nil
}

func (u *uring) word(at uint32) *uint32 { return (*uint32)(unsafe.Pointer(&u.rings[at])) }

// enter hands the kernel what it was not told of, and waits for completions.
func enter(fd uintptr, submit, wait uint32) syscall.Errno {
	_, _, errno := syscall.Syscall6(sysEnter, fd, uintptr(submit), uintptr(wait), enterGetEvents, 0, 0)
	return errno
}

// What stands for the result of a send that has none.
const (
	notSent = -int32(syscall.EAGAIN) // the kernel never saw it
	lost    = -1 << 31               // the kernel has it and did not say what became of it
)

// send sends the batch and sets the results: bytes, or a negative errno. A full
// socket is not waited for. When it returns without an error the kernel uses
// nothing of the batch any more; after an error no send may follow.
func (u *uring) send(batch []staged, results []int32) error {
	n, from := uint32(len(batch)), u.tail
	for i := range batch {
		p := batch[i].bytes
		results[i] = lost
		u.submissions[u.tail&uint32(len(u.submissions)-1)] = submission{
			op: opSend, fd: batch[i].fd, addr: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(p)))), size: uint32(len(p)),
			msgFlags: syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL, tag: uint64(i),
		}
		u.tail++
	}
	atomic.StoreUint32(u.sqTail, u.tail)
	for reaped := uint32(0); reaped < n; {
		errno := u.enter(u.fd, u.tail-atomic.LoadUint32(u.sqHead), n-reaped)
		reaped += u.reap(results)
		if errno != 0 && errno != syscall.EINTR && reaped < n {
			for i := atomic.LoadUint32(u.sqHead) - from; i < n; i++ {
				results[i] = notSent
			}
			return fmt.Errorf("cannot submit to io_uring: %w", errno)
		}
	}
	runtime.KeepAlive(u)
	return nil
}

func (u *uring) reap(results []int32) (n uint32) {
	head := *u.cqHead // ours alone
	tail := atomic.LoadUint32(u.cqTail)
	for ; head != tail; head++ {
		c := &u.completions[head&uint32(len(u.completions)-1)]
		results[c.tag] = c.result
		n++
	}
	atomic.StoreUint32(u.cqHead, head)
	return n
}
