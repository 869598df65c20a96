package loop

import (
	"bytes"
	"slices"
	"syscall"

	"github.com/velocimeter/velocimeter/transport/fanout"
)

// Ring is a fanout.Outbox: it makes the writes of many connections with one system
// call, through io_uring. It belongs to no group. One goroutine uses it at a time.
type Ring struct {
	uring   *uring
	staged  []staged
	results []int32
	bytes   []byte // what is staged: nothing else is where the kernel reads
	hasty   bool   // a connection had more than is staged: it took time
	broken  bool
	onFail  func(error)
}

// staged is a write that waits. Its descriptor stays open until the kernel is
// through with it, whatever becomes of the connection: no other gets its number.
type staged struct {
	conn  *Conn
	fd    int32
	bytes []byte
}

const (
	ringBatch = 128     // writes with one call, 1 to 2 ms
	stageMost = rawMost // bytes of one write; larger ones gain nothing and are marked as records
)

// NewRing returns a ring; an error says that this system has or allows none. When
// it fails later, onFail is told once.
func NewRing(onFail func(error)) (*Ring, error) {
	u, err := newUring(ringBatch)
	if err != nil {
		return nil, err
	}
	return &Ring{
		uring: u, staged: make([]staged, 0, ringBatch), results: make([]int32, ringBatch),
		bytes: make([]byte, 0, ringBatch/2*stageMost), onFail: onFail,
	}, nil
}

// Full reports that Commit is due.
func (r *Ring) Full() bool {
	return r.hasty || len(r.staged) == cap(r.staged) || cap(r.bytes)-len(r.bytes) < stageMost
}

// Commit makes the writes. What a connection does not take its loop writes when
// there is room. Where io_uring fails the loops write everything, and nothing is
// staged any more.
func (r *Ring) Commit() {
	r.hasty = false
	if len(r.staged) == 0 {
		return
	}
	if err := r.uring.send(r.staged, r.results[:len(r.staged)]); err != nil {
		r.broken = true
		r.onFail(err)
	}
	for i := range r.staged {
		r.staged[i].back(r.results[i])
	}
	clear(r.staged)
	r.staged, r.bytes = r.staged[:0], r.bytes[:0]
}

// take stages the batch for c and reports whether it has; c.mu is held.
func (r *Ring) take(c *Conn, batch []fanout.Chunk) bool {
	size := 0
	for _, chunk := range batch {
		size += len(chunk.Bytes)
	}
	if r.broken || size > stageMost {
		r.hasty = size > stageMost
		return false
	}
	if size == 0 || len(r.staged) == cap(r.staged) || cap(r.bytes)-len(r.bytes) < size {
		return false
	}
	from := len(r.bytes)
	for _, chunk := range batch {
		r.bytes = append(r.bytes, chunk.Bytes...)
	}
	r.staged = append(r.staged, staged{conn: c, fd: c.poll.fd, bytes: r.bytes[from:len(r.bytes):len(r.bytes)]})
	return true
}

// stage leaves a write to a ring where nothing else of the connection waits, and
// reports whether it has.
func (c *Conn) stage(r *Ring, batch []fanout.Chunk) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream != nil || c.phase != open || c.out != nil || c.staged || c.poll.sealed != nil || c.poll.fd < 0 || !r.take(c, batch) {
		return false
	}
	c.staged = true
	return true
}

// back takes the result of a staged write. What came behind it meanwhile, and what
// the kernel did not take, is the loop's, which finds out why.
func (s *staged) back(result int32) {
	c := s.conn
	defer c.rescue()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.staged = false
	if c.poll.fd < 0 { // the loop let go of it
		_ = syscall.Close(int(s.fd))
		return
	}
	if result == lost {
		c.cut()
	}
	if c.phase == ended {
		return
	}
	if sent := int(max(result, 0)); sent < len(s.bytes) {
		out := c.hold()
		if sent > 0 {
			out.cut = c.handler.Border(s.bytes, sent)
		}
		out.parts = slices.Insert(out.parts, 0, bytes.Clone(s.bytes[sent:]))
	}
	if c.out != nil {
		_ = c.tell(syscall.EPOLL_CTL_MOD)
		c.rearm()
	}
}

// drop closes the descriptor, or leaves that to the ring that is about to use it;
// mu is held.
func (c *Conn) drop(fd int) {
	if !c.staged {
		_ = syscall.Close(fd)
		return
	}
	var none syscall.EpollEvent
	_ = syscall.EpollCtl(c.poll.loop.fd, syscall.EPOLL_CTL_DEL, fd, &none)
}
