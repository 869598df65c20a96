package fanout

import "sync"

// lane is a share of the sessions; each processor serves one at a time.
type lane struct {
	mu   sync.Mutex
	list []*Session // a session knows its place

	scratch []*Session // of the goroutine that serves the lane
	batch   batch      // likewise
}

// add gives a session to a lane.
func (h *Hub) add(s *Session) {
	s.no = h.joined.Add(1)
	s.lane = h.lanes[s.no%uint64(len(h.lanes))]
	l := s.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	s.place = len(l.list)
	l.list = append(l.list, s)
}

func (l *lane) remove(s *Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := len(l.list) - 1
	l.list[last].place = s.place
	l.list[s.place] = l.list[last]
	l.list[last] = nil
	l.list = l.list[:last]
}

func (l *lane) appendAll(dst []*Session) []*Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(dst, l.list...)
}

// sessions returns all that are open.
func (h *Hub) sessions() (all []*Session) {
	for _, l := range h.lanes {
		all = l.appendAll(all)
	}
	return all
}

// eachLane calls fn for every session, lane by lane at the same time, and
// returns when all are through.
func (h *Hub) eachLane(fn func(b *batch, s *Session)) {
	var wg sync.WaitGroup
	for _, l := range h.lanes[1:] {
		wg.Go(func() { l.each(h, fn) })
	}
	h.lanes[0].each(h, fn)
	wg.Wait()
}

func (l *lane) each(h *Hub, fn func(b *batch, s *Session)) {
	l.scratch = l.appendAll(l.scratch[:0])
	for from := 0; from < len(l.scratch); {
		from += l.guarded(h, l.scratch[from:], fn)
	}
	if l.batch.out != nil {
		l.batch.out.Commit()
	}
	clear(l.scratch)
}

// guarded goes on until a session panics, closes that one alone, and returns how
// many are done with.
func (l *lane) guarded(h *Hub, list []*Session, fn func(b *batch, s *Session)) (done int) {
	defer func() {
		if r := recover(); r != nil {
			h.panicked(r)
			list[done].fail()
			done++ // the next call goes on after it
		}
	}()
	for done < len(list) {
		fn(&l.batch, list[done])
		done++
		if l.batch.out != nil && l.batch.out.Full() {
			l.batch.out.Commit()
		}
	}
	return done
}

// guard keeps a panic within the session that it came up in.
func (h *Hub) guard(s *Session, fn func()) {
	defer func() {
		if r := recover(); r != nil {
			h.panicked(r)
			s.fail()
		}
	}()
	fn()
}
