package fanout

import (
	"slices"
	"sync"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// Session is one stream connection as the fan-out sees it: its subscriptions,
// its positions and what is being written. Safe for concurrent use.
type Session struct {
	hub     *Hub
	link    Link
	framing Framing
	lease   *Lease
	place   int // in Hub.sessions, guarded there

	mu      sync.Mutex
	round   *round // newest seen: a session never goes back
	members []*member
	turn    int // the member that is served first next time
	subs    []subscription
	nextSub uint64
	tokens  int // over all token lists
	control []byte
	gate    gate

	writing bool // the link holds a batch
	since   time.Time
	sent    time.Time
	buf     *buffer // bytes of the batch that are not shared
	ending  wire.CloseCode
	closing bool // the link was told to close
	closed  bool // detached
}

// subscription is what one subscribe made.
type subscription struct {
	no     uint64
	member *member
	tokens int
}

// member is a session on a channel. All its subscriptions to the channel share
// it, so that messages come once.
type member struct {
	ch      *channel
	subs    int
	pos     uint64    // the client's position
	through uint64    // private: nothing of the channel changed in (pos, through]
	beat    time.Time // when the last message was written
	fresh   bool      // that was a snapshot
	job     job
	pinned  *message // a begun message of the chain
	part    int      // its next frame
	again   bool     // a snapshot is due after the begun message
}

// Attach makes a session of a connection and sends hello. Detach must follow.
func (h *Hub) Attach(link Link, peer Peer) *Session {
	now := time.Now()
	s := &Session{hub: h, link: link, framing: peer.Framing, lease: peer.Lease, round: h.round.Load(), sent: now}
	s.gate.start(&h.cfg, now)
	h.sessions.add(s)
	h.stats.opened.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.round.board
	s.answer(func(dst []byte) []byte {
		return wire.AppendHello(dst, &wire.Hello{
			Epoch: b.Epoch, Seq: b.Seq, ServerTime: market.TimeOf(now), HeartbeatMS: h.cfg.Heartbeat.Milliseconds(),
			Source: b.Source, Simulated: b.Simulated,
			Limits: wire.Limits{Subscriptions: h.cfg.Subscriptions, Tokens: h.cfg.Tokens, MessagesPerSecond: h.cfg.MessagesPerSecond},
		})
	})
	if h.registry.draining() {
		s.drain(now.Add(shutdownDefault), h.retry(), wire.CloseRestart)
	}
	s.flush(now)
	return s
}

// Detach ends the session once its connection is gone and the link uses none of
// the bytes that it took. Later calls do nothing.
func (s *Session) Detach() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	for _, m := range s.members {
		s.hub.table.leave(m.ch)
	}
	s.hub.stats.subscriptions.Add(-int64(len(s.subs)))
	s.members, s.subs, s.control = nil, nil, nil
	s.release()
	s.mu.Unlock()
	s.hub.sessions.remove(s)
	s.hub.stats.closed.Add(1)
	s.lease.Release()
}

// Written is called by the link when the batch that it took is written.
func (s *Session) Written() {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release()
	s.writing = false
	s.flush(now)
}

// Closing is called by the link when it closes the connection for a reason of
// its own; CloseNormal stands for whatever the client closed with.
func (s *Session) Closing(code wire.CloseCode) { s.hub.stats.closes(code) }

// Receive takes one whole message of the client. It keeps nothing of text.
func (s *Session) Receive(text []byte) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.ending != 0 {
		return
	}
	s.hub.stats.received.Add(1)
	if wait, verdict := s.gate.message(now); verdict != pass {
		s.refuseRate(wait, verdict)
	} else {
		s.handle(text, now)
	}
	s.flush(now)
}

func (s *Session) refuseRate(wait time.Duration, verdict verdict) {
	if verdict == shut {
		s.close(wire.CloseRate)
		return
	}
	s.hub.stats.errors.Add(1)
	e := &wire.RequestError{Code: wire.Rate, Text: "messages arrive too fast; this one was not read"}
	s.answer(func(dst []byte) []byte { return wire.AppendError(dst, nil, e, wait.Milliseconds()+1) })
}

func (s *Session) handle(text []byte, now time.Time) {
	s.see()
	r, err := wire.DecodeRequest(text)
	if err == nil {
		err = s.perform(&r, now)
	}
	if err == nil {
		return
	}
	s.hub.stats.errors.Add(1)
	s.answer(func(dst []byte) []byte { return wire.AppendError(dst, &r, err, 0) })
	if code := s.gate.failure(err.Code, now); code != 0 {
		s.end(code)
	}
}

func (s *Session) perform(r *wire.Request, now time.Time) *wire.RequestError {
	switch r.Op {
	case wire.OpSubscribe:
		return s.subscribe(r, now)
	case wire.OpUnsubscribe:
		return s.unsubscribe(r)
	case wire.OpList:
		s.list(r)
	case wire.OpPing:
		s.answer(func(dst []byte) []byte { return wire.AppendPong(dst, r, market.TimeOf(now)) })
	}
	return nil
}

// see loads the newest round.
func (s *Session) see() {
	if r := s.hub.round.Load(); r.seq() > s.round.seq() {
		s.round = r
	}
}

// answer puts a message on the control queue. Control messages are never
// dropped: a client that lets them pile up is closed.
func (s *Session) answer(encode func(dst []byte) []byte) {
	text := encode(nil)
	if len(s.control) > 0 && len(s.control)+len(text) > s.hub.cfg.Control {
		s.close(wire.CloseSlow)
		return
	}
	s.control = s.framing.Append(s.control, &Message{Body: text})
	s.hub.stats.messages.Add(1)
}

// due offers the session a new round.
func (s *Session) due(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing {
		s.hub.stats.skipped.Add(1)
		return
	}
	s.flush(now)
}

// sweep ends a stalled write and sends what silence asks for.
func (s *Session) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing && now.Sub(s.since) >= s.hub.cfg.Stall {
		s.hub.stats.stalled.Add(1)
		s.close(wire.CloseSlow)
		return
	}
	if s.ending == 0 && !s.writing && len(s.control) == 0 {
		s.flush(now)
		if !s.writing && now.Sub(s.sent) >= s.hub.cfg.Heartbeat {
			s.answer(func(dst []byte) []byte { return wire.AppendHeartbeat(dst, market.TimeOf(now)) })
		}
	}
	s.flush(now)
}

// drain announces the end; the connection closes once the announcement is out.
func (s *Session) drain(deadline time.Time, retry time.Duration, code wire.CloseCode) {
	if s.closed || s.ending != 0 {
		return
	}
	left := max(time.Until(deadline), 0)
	s.answer(func(dst []byte) []byte { return wire.AppendDrain(dst, left.Milliseconds(), retry.Milliseconds()) })
	s.end(code)
}

// end closes the connection as soon as the control queue is written.
func (s *Session) end(code wire.CloseCode) {
	if s.ending == 0 {
		s.ending = code
	}
}

// close closes the connection without waiting for the queue.
func (s *Session) close(code wire.CloseCode) {
	if s.closing {
		return
	}
	s.end(code)
	s.closing, s.control = true, nil
	s.hub.stats.closes(code)
	s.link.Close(code, closeReasons[code])
}

// fail closes after a panic; nothing of the session is trusted any more.
func (s *Session) fail() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close(wire.CloseInternal)
}

func (s *Session) memberOf(k key) *member {
	i := slices.IndexFunc(s.members, func(m *member) bool { return m.ch.key == k })
	if i < 0 {
		return nil
	}
	return s.members[i]
}
