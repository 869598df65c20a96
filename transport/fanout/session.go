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
	// Every tick reads what is up to counts: it stands together.
	mu      sync.Mutex
	writing bool // the link holds what it could not write
	closing bool // the link was told to close
	closed  bool // detached
	mute    bool // its framing has no heartbeats
	ending  wire.CloseCode
	load    load
	hub     *Hub
	view    *view // newest seen: a session never goes back
	members []*member
	turn    int // the member that is served first next time
	control []byte
	link    Link
	since   time.Time // of the newest write
	counts  counts
	past    *past // nil where the peer does not recover

	subs    []subscription
	nextSub uint64
	tokens  int // over all token lists
	gate    gate
	peer    Peer
	begun   time.Time
	lane    *lane
	no      uint64 // of all sessions ever
	place   int    // in the lane, guarded there
}

// counts are what a session has counted.
type counts struct {
	messages, bytes, conflated, skipped, saved uint64
}

// Attach makes a session of a connection and sends hello, or, where the peer
// brings its only request, the answer to that. Detach must follow, unless Attach
// panics: then no session is left, and the lease is the caller's.
func (h *Hub) Attach(link Link, peer Peer) *Session {
	now := time.Now()
	s := &Session{hub: h, link: link, peer: peer, begun: now, view: h.newest().view, since: now}
	if peer.Recover {
		s.past = new(past)
	}
	s.gate.start(&h.cfg, now)
	h.add(s)
	h.stats.opened.Add(1)
	s.begin(now)
	return s
}

// begin writes what stands first. After a panic the session takes no part any more.
func (s *Session) begin(now time.Time) {
	begun := false
	defer func() {
		if !begun {
			s.leave()
		}
	}()
	h := s.hub
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.peer.Request; r == nil {
		s.greet(now)
	} else if err := s.subscribe(r, now); err != nil {
		s.refuse(r, err, now)
		s.drain(now.Add(shutdownDefault), h.retry(), wire.CloseRestart) // it cannot ask for anything else
	}
	if h.registry.draining() {
		s.drain(now.Add(shutdownDefault), h.retry(), wire.CloseRestart)
	}
	s.flush(now)
	begun = true
}

func (s *Session) greet(now time.Time) {
	h, b := s.hub, s.view.board
	s.answer(wire.KindAnswer, func(dst []byte) []byte {
		return wire.AppendHello(dst, &wire.Hello{
			Epoch: b.Epoch, Seq: b.Seq, ServerTime: market.TimeOf(now), HeartbeatMS: h.cfg.Heartbeat.Milliseconds(),
			Source: b.Source, Simulated: b.Simulated,
			Limits: wire.Limits{Subscriptions: h.cfg.Subscriptions, Tokens: h.cfg.Tokens, MessagesPerSecond: h.cfg.MessagesPerSecond},
		})
	})
}

// Detach ends the session once its connection is gone and the link uses none of
// the bytes that it took. Later calls do nothing.
func (s *Session) Detach() {
	if s.leave() && !s.peer.Kept {
		s.peer.Lease.Release()
	}
}

// leave takes the session out of everything that knows it, once.
func (s *Session) leave() (first bool) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	s.closed = true
	for _, m := range s.members {
		s.hub.table.leave(m.ch)
	}
	s.hub.stats.subscriptions.Add(-int64(len(s.subs)))
	s.members, s.subs, s.control = nil, nil, nil
	s.mu.Unlock()
	s.lane.remove(s)
	s.hub.stats.closed.Add(1)
	return true
}

// Written is called by the link when what it kept is written.
func (s *Session) Written() {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
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
	s.answer(wire.KindError, func(dst []byte) []byte { return wire.AppendError(dst, nil, tooFast(), wait.Milliseconds()+1) })
}

func tooFast() *wire.RequestError {
	return &wire.RequestError{Code: wire.TooFast, Text: "messages arrive too fast; this one was not read"}
}

func (s *Session) handle(text []byte, now time.Time) {
	s.see()
	r, err := wire.DecodeRequest(text, s.peer.Encoding)
	if err == nil {
		err = s.perform(&r, now)
	}
	if err != nil {
		s.refuse(&r, err, now)
	}
}

// refuse answers a request with an error.
func (s *Session) refuse(r *wire.Request, err *wire.RequestError, now time.Time) {
	retry := s.blame(err, now)
	s.answer(wire.KindError, func(dst []byte) []byte { return wire.AppendError(dst, r, err, retry) })
}

// blame counts an error, ends a connection that makes too many, and returns after
// how many milliseconds the same may succeed.
func (s *Session) blame(err *wire.RequestError, now time.Time) (retryMS int64) {
	s.hub.stats.errors.Add(1)
	if err.Code == wire.Busy { // no fault of the client
		return busyRetry.Milliseconds()
	}
	if code := s.gate.failure(err.Code, now); code != 0 {
		s.end(code)
	}
	return 0
}

func (s *Session) perform(r *wire.Request, now time.Time) *wire.RequestError {
	switch r.Op {
	case wire.OpSubscribe:
		return s.subscribe(r, now)
	case wire.OpUpdate:
		return s.update(r, now)
	case wire.OpUnsubscribe:
		return s.unsubscribe(r)
	case wire.OpVerify:
		return s.verify(r)
	case wire.OpList:
		s.list(r)
	case wire.OpPing:
		s.answer(wire.KindAnswer, func(dst []byte) []byte { return wire.AppendPong(dst, r, market.TimeOf(now)) })
	}
	return nil
}

// see loads the newest view.
func (s *Session) see() {
	if r := s.hub.newest(); r.seq() > s.view.seq() {
		s.view = r.view
	}
}

// answer puts a message on the control queue; a framing may have nothing for it.
func (s *Session) answer(kind wire.Kind, encode func(dst []byte) []byte) {
	queued := s.queue(func(dst []byte) []byte {
		return s.peer.Framing.Append(dst, &Message{Kind: kind, Body: encode(nil)})
	})
	s.mute = s.mute || kind == wire.KindHeartbeat && !queued
}

// queue appends one framed message, or none, to the control queue and reports
// which. Control messages are never dropped: a client that lets them pile up is
// closed.
func (s *Session) queue(add func(dst []byte) []byte) bool {
	before := len(s.control)
	grown := add(s.control)
	switch {
	case len(grown) == before:
		return false
	case before > 0 && len(grown) > s.hub.cfg.Control:
		s.close(wire.CloseSlow)
		return true
	}
	s.control = grown
	s.message()
	return true
}

// busyRetry is when a request may succeed for which there was no room.
const busyRetry = 5 * time.Second

// due offers the session a new round.
func (s *Session) due(b *batch, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || s.closed {
		return
	}
	if s.writing {
		s.counts.skipped++
		s.hub.stats.skipped.Add(1)
		s.load.skip()
		return
	}
	s.load.keep()
	s.flushWith(b, now)
}

// sweep ends a stalled write and sends what silence asks for.
func (s *Session) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || s.closed {
		return
	}
	if s.writing && now.Sub(s.since) >= s.hub.cfg.Stall {
		s.hub.stats.stalled.Add(1)
		s.close(wire.CloseSlow)
		return
	}
	s.adapt(now)
	if s.ending == 0 && !s.writing && len(s.control) == 0 {
		s.flush(now)
		if !s.mute && !s.writing && now.Sub(s.since) >= s.hub.cfg.Heartbeat {
			s.answer(wire.KindHeartbeat, func(dst []byte) []byte { return wire.AppendHeartbeat(dst, market.TimeOf(now)) })
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
	s.answer(wire.KindDrain, func(dst []byte) []byte { return wire.AppendDrain(dst, left.Milliseconds(), retry.Milliseconds()) })
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
	if s.closing || s.closed {
		return
	}
	s.end(code)
	s.closing, s.control = true, nil
	s.hub.stats.closes(code)
	s.link.Close(code, s.reason(code))
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
