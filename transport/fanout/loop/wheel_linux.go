package loop

import (
	"os"
	"sync"
	"time"
)

const (
	tick   = int64(1 << 27) // 134 ms: how late a timer may be
	slots  = 512            // later than 68 s takes another round
	unplan = -1
)

// wheel is the one timer of a loop: the connections by when they must be looked
// at, in a ring of lists.
type wheel struct {
	mu   sync.Mutex
	ring [slots]*Conn
	past int64 // ticks that were looked at
	next int64 // no list before this tick holds anything
	wake int64 // the tick that file is set to wake the loop at
	file *os.File
}

func (w *wheel) start(file *os.File) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.file, w.past = file, clock()/tick
	w.next, w.wake = never, never
}

// set plans a look at c; earlier plans are void.
func (w *wheel) set(c *Conn, due int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drop(c)
	if due == never {
		return
	}
	at := min(max(due/tick+1, w.past+1), w.past+slots)
	c.poll.slot = int16(at % slots)
	head := &w.ring[c.poll.slot]
	if c.poll.after = *head; *head != nil {
		(*head).poll.before = c
	}
	*head = c
	if at < w.next {
		w.next = at
		w.arm()
	}
}

// drop undoes the plan of c; mu is held.
func (w *wheel) drop(c *Conn) {
	p := &c.poll
	if p.slot == unplan {
		return
	}
	if p.before != nil {
		p.before.poll.after = p.after
	} else {
		w.ring[p.slot] = p.after
	}
	if p.after != nil {
		p.after.poll.before = p.before
	}
	p.before, p.after, p.slot = nil, nil, unplan
}

func (w *wheel) remove(c *Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drop(c)
}

// arm makes the loop wake in time; mu is held.
func (w *wheel) arm() {
	if w.next == w.wake {
		return
	}
	w.wake = w.next
	deadline := time.Time{}
	if w.next != never {
		left := w.next*tick - clock() // looked at first: rather late than early
		deadline = time.Now().Add(time.Duration(left))
	}
	_ = w.file.SetReadDeadline(deadline)
}

// due appends the connections whose time has come and plans the next wake-up.
func (w *wheel) due(now int64, dst []*Conn) []*Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	to := now / tick
	if to < w.next {
		return dst
	}
	for at := max(w.past+1, to-slots+1); at <= to; at++ {
		for c := w.ring[at%slots]; c != nil; c = w.ring[at%slots] {
			w.drop(c)
			dst = append(dst, c)
		}
	}
	w.past, w.next = to, never
	for at := to + 1; at <= to+slots; at++ {
		if w.ring[at%slots] != nil {
			w.next = at
			break
		}
	}
	w.arm()
	return dst
}
