package mailbox

// keepCap is the capacity up to which an emptied queue keeps its memory.
const keepCap = 64

// queue is a FIFO that gives its memory back after a burst.
type queue struct {
	items []any
	head  int
}

func (q *queue) len() int { return len(q.items) - q.head }

// all returns the waiting items, oldest first; the caller may replace them.
func (q *queue) all() []any { return q.items[q.head:] }

func (q *queue) push(v any) {
	if q.head > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

// pop removes the oldest item; the queue must not be empty.
func (q *queue) pop() any {
	v := q.items[q.head]
	q.items[q.head] = nil
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
		if cap(q.items) > keepCap {
			q.items = nil
		}
	}
	return v
}
