//go:build linux

package main

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Numbers of io_uring, from the kernel's linux/io_uring.h; the system calls have
// the same ones on every processor.
const (
	sysSetup    = 425
	sysEnter    = 426
	sysRegister = 427

	setupCoopTaskrun  = 1 << 8
	setupSingleIssuer = 1 << 12
	setupDeferTaskrun = 1 << 13
	setupNoArray      = 1 << 16 // Linux 6.6: entries are taken in their order

	enterGetEvents = 1 << 0
	featSingleMmap = 1 << 0

	offsetRings   = 0
	offsetEntries = 0x10000000

	registerFiles       = 2
	registerFilesUpdate = 6

	opSend    = 26
	fixedFile = 1 << 0
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

// ring is one io_uring. Only the thread that made it uses it, or one at a time
// where it belongs to none.
type ring struct {
	fd           int
	memory       []byte
	sqTail       *uint32
	cqHead       *uint32
	cqTail       *uint32
	submissions  []submission
	completions  []completion
	used, queued uint32 // the tail, and how many of it the kernel was not told
	results      []int32
	fixed        bool
	next         int32
	free         []int32
}

// mostFiles is how many places the table of files has.
const mostFiles = 16 << 10

// newRing makes a ring for batches of the given size, with a table of files where
// asked. Its goroutine must be locked to its thread, unless anywhere is set.
func newRing(batch uint32, table, anywhere bool) (*ring, error) {
	p := setupParams{flags: setupSingleIssuer | setupDeferTaskrun | setupNoArray}
	if anywhere {
		p.flags = setupCoopTaskrun | setupNoArray
	}
	fd, _, errno := syscall.Syscall(sysSetup, uintptr(batch), uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("cannot set io_uring up: %w", errno)
	}
	r := &ring{fd: int(fd), fixed: table}
	if err := r.attach(&p); err != nil {
		return nil, err
	}
	if !r.fixed {
		return r, nil
	}
	files := make([]int32, mostFiles)
	for i := range files {
		files[i] = -1
	}
	_, _, errno = syscall.Syscall6(sysRegister, fd, registerFiles, uintptr(unsafe.Pointer(&files[0])), mostFiles, 0, 0)
	if errno != 0 {
		return nil, fmt.Errorf("cannot register %d files: %w", mostFiles, errno)
	}
	return r, nil
}

// attach maps what the kernel shares.
func (r *ring) attach(p *setupParams) (err error) {
	if p.features&featSingleMmap == 0 {
		return errors.New("cannot map io_uring: the kernel is too old")
	}
	size := max(int(p.cq.entriesAt)+int(p.completions)*int(unsafe.Sizeof(completion{})), int(p.sq.array))
	const access, kind = syscall.PROT_READ | syscall.PROT_WRITE, syscall.MAP_SHARED | syscall.MAP_POPULATE
	if r.memory, err = syscall.Mmap(r.fd, offsetRings, size, access, kind); err != nil {
		return fmt.Errorf("cannot map the rings: %w", err)
	}
	entries, err := syscall.Mmap(r.fd, offsetEntries, int(p.submissions)*int(unsafe.Sizeof(submission{})), access, kind)
	if err != nil {
		return fmt.Errorf("cannot map the entries: %w", err)
	}
	r.submissions = unsafe.Slice((*submission)(unsafe.Pointer(&entries[0])), p.submissions)
	r.completions = unsafe.Slice((*completion)(unsafe.Pointer(&r.memory[p.cq.entriesAt])), p.completions)
	r.sqTail, r.cqHead, r.cqTail = r.word(p.sq.tail), r.word(p.cq.head), r.word(p.cq.tail)
	return nil
}

func (r *ring) word(at uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.memory[at])) }

// enroll gives a descriptor a place in the table of files and returns what send
// takes; -1 where there is no table.
func (r *ring) enroll(fd int) (slot int32, err error) {
	if !r.fixed {
		return -1, nil
	}
	if n := len(r.free); n > 0 {
		slot, r.free = r.free[n-1], r.free[:n-1]
	} else if slot = r.next; slot < mostFiles {
		r.next++
	} else {
		return -1, fmt.Errorf("cannot register a file: the table has %d places", mostFiles)
	}
	return slot, r.place(slot, int32(fd))
}

// leave gives the place back; the table alone would keep the file open.
func (r *ring) leave(slot int32) {
	if slot >= 0 && r.place(slot, -1) == nil {
		r.free = append(r.free, slot)
	}
}

func (r *ring) place(slot, fd int32) error {
	update := struct {
		slot, _ uint32
		files   uint64
	}{slot: uint32(slot), files: uint64(uintptr(unsafe.Pointer(&fd)))}
	_, _, errno := syscall.Syscall6(sysRegister, uintptr(r.fd), registerFilesUpdate, uintptr(unsafe.Pointer(&update)), 1, 0, 0)
	runtime.KeepAlive(&fd)
	if errno != 0 {
		return fmt.Errorf("cannot register file %d: %w", fd, errno)
	}
	return nil
}

// full reports whether the batch must be submitted before another send.
func (r *ring) full() bool { return int(r.queued) == len(r.submissions) }

// send queues p for a descriptor, or for its place in the table. A full socket is
// not waited for. p is the kernel's until submit has returned.
func (r *ring) send(fd int, slot int32, p []byte) {
	s := &r.submissions[r.used&uint32(len(r.submissions)-1)]
	*s = submission{
		op: opSend, fd: int32(fd), addr: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(p)))), size: uint32(len(p)),
		msgFlags: syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL, tag: uint64(r.queued),
	}
	if slot >= 0 {
		s.flags, s.fd = fixedFile, slot
	}
	r.used++
	r.queued++
}

// submit hands the batch over and returns the results in its order: bytes, or a
// negative errno. They are valid until the next call.
func (r *ring) submit() ([]int32, error) {
	n := r.queued
	r.queued = 0
	atomic.StoreUint32(r.sqTail, r.used)
	r.results = append(r.results[:0], make([]int32, n)...)
	for told, reaped := uint32(0), uint32(0); reaped < n; {
		k, _, errno := syscall.Syscall6(sysEnter, uintptr(r.fd), uintptr(n-told), uintptr(n-reaped), enterGetEvents, 0, 0)
		if errno != 0 && errno != syscall.EINTR {
			return nil, fmt.Errorf("cannot submit %d sends: %w", n, errno)
		}
		if errno == 0 {
			told += uint32(k)
		}
		reaped += r.reap()
	}
	return r.results, nil
}

func (r *ring) reap() (n uint32) {
	head := *r.cqHead // ours alone
	tail := atomic.LoadUint32(r.cqTail)
	for ; head != tail; head++ {
		c := &r.completions[head&uint32(len(r.completions)-1)]
		r.results[c.tag] = c.result
		n++
	}
	atomic.StoreUint32(r.cqHead, head)
	return n
}

// submitAll sends the frame to everybody in batches and finishes with send(2)
// what a socket did not take; mu is held.
func (f *floor) submitAll(r *ring, frame []byte) error {
	for _, c := range f.gone {
		r.leave(c.slot)
	}
	f.gone = nil
	batch := make([]*client, 0, len(r.submissions))
	flush := func() error {
		results, err := r.submit()
		for i, n := range results {
			switch {
			case n == -int32(syscall.EAGAIN):
				write(batch[i].fd, frame, true)
			case n >= 0 && int(n) < len(frame):
				write(batch[i].fd, frame[n:], true)
			}
		}
		batch = batch[:0]
		return err
	}
	for c := range f.conns {
		if !c.known {
			var err error
			if c.slot, err = r.enroll(c.fd); err != nil {
				return err
			}
			c.known = true
		}
		batch = append(batch, c)
		if r.send(c.fd, c.slot, frame); r.full() {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(batch) == 0 {
		return nil
	}
	return flush()
}
