package client

import (
	"context"
	"sync"
)

// item is what a connection hands to Next, in order.
type item struct {
	conn   *conn
	msg    []byte // a data message or heartbeat
	binary bool
	ctl    *control // any other message
	call   *call    // the request that ctl answers
	end    *Event   // the connection ended
}

// queue holds messages between the reader and Next. It is bounded in bytes: when
// it is full the reader stops reading, so that the server sees a slow client and
// skips ticks. Where an answer is waited for, which may be behind the data, it
// takes eight times as much.
type queue struct {
	mu     sync.Mutex
	items  []item
	first  int
	bytes  int
	limit  int
	spare  [][]byte
	ended  error
	gone   chan struct{} // one token: an item was taken
	arrive chan struct{} // one token: an item or the end came
}

const (
	itemBytes  = 256 // what a message costs beside its bytes
	maxSpare   = 16
	spareBytes = 64 << 10
)

func newQueue(limit int) *queue {
	return &queue{limit: limit, gone: make(chan struct{}, 1), arrive: make(chan struct{}, 1)}
}

// push adds an item, waiting for room. It fails with ErrBacklog where there is
// none although somebody waits for an answer, as waiting reports.
func (q *queue) push(ctx context.Context, it item, waiting func() bool) error {
	for {
		q.mu.Lock()
		if q.bytes <= q.limit || waiting() && q.bytes <= 8*q.limit {
			q.items = append(q.items, it)
			q.bytes += len(it.msg) + itemBytes
			q.mu.Unlock()
			signal(q.arrive)
			return nil
		}
		q.mu.Unlock()
		if waiting() {
			return ErrBacklog
		}
		select {
		case <-q.gone:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wake lets push look again whether somebody waits.
func (q *queue) wake() { signal(q.gone) }

// pop takes the next item, or the error that ended the queue.
func (q *queue) pop(ctx context.Context) (item, error) {
	for {
		q.mu.Lock()
		if q.first < len(q.items) {
			it := q.items[q.first]
			q.items[q.first] = item{}
			if q.first++; q.first == len(q.items) {
				q.items, q.first = q.items[:0], 0
			} else if q.first > 1024 && q.first > len(q.items)/2 {
				n := copy(q.items, q.items[q.first:])
				clear(q.items[n:])
				q.items, q.first = q.items[:n], 0
			}
			q.bytes -= len(it.msg) + itemBytes
			q.mu.Unlock()
			signal(q.gone)
			return it, nil
		}
		err := q.ended
		q.mu.Unlock()
		if err != nil {
			signal(q.arrive) // for others who wait
			return item{}, err
		}
		select {
		case <-q.arrive:
		case <-ctx.Done():
			return item{}, ctx.Err()
		}
	}
}

// end makes pop return err once nothing is left.
func (q *queue) end(err error) {
	q.mu.Lock()
	if q.ended == nil {
		q.ended = err
	}
	q.mu.Unlock()
	signal(q.arrive)
}

// buffer returns bytes for the next message.
func (q *queue) buffer() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.spare); n > 0 {
		b := q.spare[n-1]
		q.spare = q.spare[:n-1]
		return b
	}
	return nil
}

// recycle takes the bytes of a message back.
func (q *queue) recycle(b []byte) {
	if cap(b) == 0 || cap(b) > spareBytes {
		return
	}
	q.mu.Lock()
	if len(q.spare) < maxSpare {
		q.spare = append(q.spare, b[:0])
	}
	q.mu.Unlock()
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
