package socketio

import (
	"container/list"
	"sync"
	"time"

	"github.com/velocimeter/velocimeter/transport/fanout"
)

// memory is what a socket had when its connection was lost.
type memory struct {
	pid, sid string
	state    *fanout.Memory
	bytes    int
	lost     time.Time
}

// memories keeps them until their clients come back: for a time, and at most so many
// bytes; the oldest go first. Safe for concurrent use.
type memories struct {
	keep time.Duration
	most int // bytes

	mu    sync.Mutex
	by    map[string]*list.Element // by pid, of *memory
	order list.List                // oldest first
	bytes int
	timer *time.Timer // runs while there are any
	shut  bool
}

func newMemories(keep time.Duration, most int) *memories {
	return &memories{keep: keep, most: most, by: make(map[string]*list.Element)}
}

// put keeps m, unless it alone is too big.
func (s *memories) put(m *memory) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut || m.bytes > s.most {
		return
	}
	if old := s.by[m.pid]; old != nil {
		s.drop(old)
	}
	m.lost = time.Now()
	s.by[m.pid] = s.order.PushBack(m)
	s.bytes += m.bytes
	for s.bytes > s.most {
		s.drop(s.order.Front())
	}
	if s.timer == nil {
		s.timer = time.AfterFunc(s.keep, s.expire)
	}
}

// take returns what is kept under a pid, once; nil where there is nothing.
func (s *memories) take(pid string) *memory {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.by[pid]
	if e == nil {
		return nil
	}
	s.drop(e)
	m := of(e)
	if time.Since(m.lost) > s.keep {
		return nil
	}
	return m
}

// expire forgets who is late, and comes back for the next one.
func (s *memories) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = nil
	if s.shut {
		return
	}
	for e := s.order.Front(); e != nil; e = s.order.Front() {
		if left := s.keep - time.Since(of(e).lost); left > 0 {
			s.timer = time.AfterFunc(left, s.expire)
			return
		}
		s.drop(e)
	}
}

// close forgets everybody: nobody comes back to a server that stops.
func (s *memories) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut, s.bytes = true, 0
	s.order.Init()
	clear(s.by)
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}

// count returns how many are kept, and their bytes.
func (s *memories) count() (n, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.by), s.bytes
}

func (s *memories) drop(e *list.Element) {
	m := of(e)
	delete(s.by, m.pid)
	s.order.Remove(e)
	s.bytes -= m.bytes
}

func of(e *list.Element) *memory {
	m, _ := e.Value.(*memory)
	return m
}
