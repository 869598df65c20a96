package loop

import (
	"syscall"
	"unsafe"

	"github.com/velocimeter/velocimeter/transport/fanout"
)

// rawMost bounds the writes that the scheduler is not told of: they end before it
// would care.
const rawMost = 4 << 10

const msgEOR = 0x80

// read and write never block: the descriptor is non-blocking.
func read(fd int32, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// write marks large writes as records: the kernel would append the next ones to
// the last of them without a look at TCP_NOTSENT_LOWAT.
func write(fd int32, p []byte) (int, error) {
	var n uintptr
	var errno syscall.Errno
	if len(p) > rawMost {
		n, _, errno = syscall.Syscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), msgEOR, 0, 0)
	} else {
		n, _, errno = syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// send writes p as far as the kernel takes it; mu is held. A failure ends the
// connection.
func (c *Conn) send(p []byte) (sent int) {
	if c.poll.sealed != nil {
		return c.sendSealed(p)
	}
	for sent < len(p) {
		step := p[sent:min(len(p), sent+writeMost)]
		n, err := write(c.poll.fd, step)
		if err == syscall.EINTR {
			continue
		}
		if err != nil && err != syscall.EAGAIN {
			c.cut()
			return sent
		}
		sent += max(n, 0)
		if n < len(step) {
			return sent
		}
	}
	return sent
}

// writeBatch writes chunks, small ones copied together. What the kernel does not
// take is kept; mu is held. It reports whether everything is out.
func (c *Conn) writeBatch(batch []fanout.Chunk) (all bool) {
	var sent int
	if len(batch) == 1 {
		sent = c.send(batch[0].Bytes)
		all = sent == len(batch[0].Bytes)
	} else {
		sent, all = c.writeJoined(batch)
	}
	all = all && c.settled()
	if all || c.phase != open {
		return all
	}
	c.keep(batch, sent)
	_ = c.tell(syscall.EPOLL_CTL_MOD)
	c.rearm()
	return false
}

func (c *Conn) writeJoined(batch []fanout.Chunk) (sent int, all bool) {
	s, _ := scratchPool.Get().(*scratch)
	defer scratchPool.Put(s)
	for i := 0; i < len(batch); {
		p := batch[i].Bytes
		i++
		if i < len(batch) && len(p)+len(batch[i].Bytes) <= writeMost {
			s.bytes = append(s.bytes[:0], p...)
			for i < len(batch) && len(s.bytes)+len(batch[i].Bytes) <= writeMost {
				s.bytes = append(s.bytes, batch[i].Bytes...)
				i++
			}
			p = s.bytes
		}
		n := c.send(p)
		if sent += n; n < len(p) {
			return sent, false
		}
	}
	return sent, true
}

// push writes what was kept, as far as the kernel takes it; mu is held.
func (c *Conn) push() {
	if c.out == nil || c.staged {
		return
	}
	s, _ := scratchPool.Get().(*scratch)
	defer scratchPool.Put(s)
	for c.out.settle() {
		p := c.out.next(s)
		n := c.send(p)
		if c.phase == ended {
			return
		}
		c.out.advance(n, c.handler.Border)
		if n < len(p) {
			_ = c.tell(syscall.EPOLL_CTL_MOD)
			return
		}
	}
	if !c.settled() {
		if c.phase != ended {
			_ = c.tell(syscall.EPOLL_CTL_MOD)
		}
		return
	}
	c.out = nil
	_ = c.tell(syscall.EPOLL_CTL_MOD)
	if c.phase == finishing {
		c.lastOut()
	}
}
