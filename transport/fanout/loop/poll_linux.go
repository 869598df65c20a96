package loop

import (
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// loops are the epoll sets of a group, made when the first connection comes.
type loops struct {
	once sync.Once
	all  []*epoll
	next atomic.Uint32
}

// polled is what a connection in a loop has beside others. The links and slot are
// guarded by the wheel, the rest by Conn.mu.
type polled struct {
	loop          *epoll
	before, after *Conn
	fd            int32
	place         int32 // in epoll.places
	generation    int32
	interest      uint32 // what epoll is told
	enrolled      bool   // it is told something
	slot          int16  // in the wheel, or unplan
	again         bool   // there may be input that epoll does not tell of
	sealed        *sealed
}

// place is where a loop finds the connection of an event. The generation tells
// events of a former one.
type place struct {
	conn       *Conn
	generation int32
}

// epoll is one loop.
type epoll struct {
	fd    int
	file  *os.File // the set as Go's own poller sees it: a waiting loop holds no thread
	raw   syscall.RawConn
	wheel wheel

	mu      sync.Mutex
	places  []place
	free    []int32
	running bool

	events [128]syscall.EpollEvent // of the loop's goroutine, as the rest
	buf    []byte
	late   []*Conn
}

const (
	readMost = 64 << 10 // bytes read at once
	reading  = syscall.EPOLLIN | syscall.EPOLLRDHUP
)

// take makes c a descriptor of ours and closes tcp, and with it what Go keeps for
// it. It returns false where there are no descriptors left.
func (l *loops) take(c *Conn, tcp *net.TCPConn) bool {
	l.once.Do(l.start)
	raw, err := tcp.SyscallConn()
	if len(l.all) == 0 || err != nil {
		return false
	}
	fd, errno := uintptr(0), syscall.Errno(0)
	err = raw.Control(func(old uintptr) {
		fd, _, errno = syscall.RawSyscall(syscall.SYS_FCNTL, old, syscall.F_DUPFD_CLOEXEC, 0)
	})
	if err != nil || errno != 0 {
		return false
	}
	c.poll = polled{loop: l.all[l.next.Add(1)%uint32(len(l.all))], fd: int32(fd), slot: unplan}
	_ = tcp.Close()
	return true
}

func (l *loops) start() {
	for range runtime.GOMAXPROCS(0) {
		if e := newEpoll(); e != nil {
			l.all = append(l.all, e)
		}
	}
}

func newEpoll() *epoll {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil
	}
	_ = syscall.SetNonblock(fd, true) // or Go would not poll it
	e := &epoll{fd: fd, file: os.NewFile(uintptr(fd), "epoll")}
	if e.raw, err = e.file.SyscallConn(); err != nil {
		_ = e.file.Close()
		return nil
	}
	e.wheel.start(e.file)
	return e
}

// enroll begins to serve c.
func (c *Conn) enroll() {
	e := c.poll.loop
	e.mu.Lock()
	if n := len(e.free); n > 0 {
		c.poll.place = e.free[n-1]
		e.free = e.free[:n-1]
	} else {
		c.poll.place = int32(len(e.places))
		e.places = append(e.places, place{})
	}
	e.places[c.poll.place].conn = c
	c.poll.generation = e.places[c.poll.place].generation
	if !e.running {
		e.running = true
		go e.run()
	}
	e.mu.Unlock()
	c.mu.Lock()
	c.poll.enrolled = true
	err := c.tell(syscall.EPOLL_CTL_ADD)
	c.rearm()
	c.reset = c.reset || err != nil
	c.mu.Unlock()
	if err != nil {
		e.close(c)
	}
}

// tell brings epoll's interest up to date; mu is held.
func (c *Conn) tell(op int) error {
	want := uint32(reading)
	if c.deaf {
		want = 0
	}
	if c.out != nil && !c.staged || c.poll.again && !c.deaf {
		want |= syscall.EPOLLOUT
	}
	if op == syscall.EPOLL_CTL_MOD && (!c.poll.enrolled || c.poll.interest == want) {
		return nil
	}
	c.poll.interest = want
	ev := syscall.EpollEvent{Events: want, Fd: c.poll.place, Pad: c.poll.generation}
	return syscall.EpollCtl(c.poll.loop.fd, op, int(c.poll.fd), &ev)
}

// rearm plans the next look at the connection; mu is held.
func (c *Conn) rearm() {
	if c.poll.enrolled && c.phase != ended {
		c.poll.loop.wheel.set(c, c.deadline())
	}
}

// halfClose tells the peer that nothing more will come; mu is held. Where we
// encrypt the peer is to end first: an end of TCP alone would look like an attack.
func (c *Conn) halfClose() {
	if c.poll.sealed == nil {
		_ = syscall.Shutdown(int(c.poll.fd), syscall.SHUT_WR)
	}
}

// hangUp makes the loop see the end, which closes the descriptor; mu is held.
func (c *Conn) hangUp() {
	c.farewell()
	_ = syscall.Shutdown(int(c.poll.fd), syscall.SHUT_RDWR)
}

// run serves connections as long as there are any.
func (e *epoll) run() {
	e.buf = make([]byte, readMost)
	for e.turn() {
	}
}

// turn waits for something to happen and acts on it. It returns false when the
// last connection is gone.
func (e *epoll) turn() bool {
	n := e.wait()
	for i := range n {
		ev := &e.events[i]
		e.mu.Lock()
		p := e.places[ev.Fd]
		e.mu.Unlock()
		if p.conn != nil && p.generation == ev.Pad {
			e.serve(p.conn, ev.Events)
		}
	}
	e.late = e.wheel.due(clock(), e.late[:0])
	for _, c := range e.late {
		e.expire(c)
	}
	clear(e.late)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running = len(e.free) < len(e.places); !e.running {
		e.buf, e.late = nil, nil
	}
	return e.running
}

// wait returns the number of events; none when a timer is due.
func (e *epoll) wait() (n int) {
	_ = e.raw.Read(func(fd uintptr) bool {
		r, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&e.events[0])), uintptr(len(e.events)), 0, 0, 0)
		if errno == 0 {
			n = int(r)
		}
		return n > 0
	})
	return n
}

// serve acts on the events of one connection.
func (e *epoll) serve(c *Conn, events uint32) {
	defer c.rescue()
	if events&syscall.EPOLLOUT != 0 {
		c.writable()
		if c.poll.again {
			events |= syscall.EPOLLIN
		}
	}
	if events&^syscall.EPOLLOUT != 0 {
		e.readable(c, events)
	}
}

func (e *epoll) expire(c *Conn) {
	defer c.rescue()
	c.expire()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rearm()
}

// writable goes on with what is unwritten.
func (c *Conn) writable() {
	if c.resume() {
		c.handler.Written()
	}
}

// resume writes what the kernel takes and reports whether Written is due.
func (c *Conn) resume() (written bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.push()
	if written = c.owed && c.out == nil; written {
		c.owed = false
	}
	return written
}

// readable takes what came, or the end of it.
func (e *epoll) readable(c *Conn, events uint32) {
	c.mu.Lock()
	over, deaf, fd := c.phase == ended, c.deaf, c.poll.fd
	c.mu.Unlock()
	if !over && !deaf {
		if c.poll.sealed != nil {
			if e.open(c) {
				e.close(c)
			}
			return
		}
		n, err := read(fd, e.buf)
		if err == syscall.EAGAIN || err == syscall.EINTR {
			return
		}
		if n > 0 {
			c.handler.Input(e.buf[:n])
			return
		}
		over = true
	}
	if over || events&(syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
		e.close(c)
	}
}

// close lets the descriptor go. No event and no write reaches it after that.
func (e *epoll) close(c *Conn) {
	c.mu.Lock()
	e.release(c)
	c.mu.Unlock()
	e.wheel.remove(c)
	e.mu.Lock()
	p := &e.places[c.poll.place]
	p.conn = nil
	p.generation++
	e.free = append(e.free, c.poll.place)
	e.mu.Unlock()
	c.gone()
}

// release closes the descriptor; mu is held. Unread bytes would make the kernel
// reset the connection and destroy our last frame on its way.
func (e *epoll) release(c *Conn) {
	fd := int(c.poll.fd)
	c.farewell()
	if c.reset {
		_ = syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	} else if e.buf != nil {
		_, _ = read(c.poll.fd, e.buf)
	}
	c.phase, c.out, c.owed = ended, nil, false
	c.poll.enrolled, c.poll.fd = false, -1
	c.drop(fd)
}
