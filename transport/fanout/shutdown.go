package fanout

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/velocimeter/velocimeter/transport/wire"
)

const (
	retryLeast      = 500 * time.Millisecond
	shutdownDefault = 10 * time.Second
)

// Shutdown refuses new connections, announces the end to every client with a
// retry time of its own, closes with code as soon as the announcement is written,
// and waits until all connections are gone. After half of the time clients that
// are slow to read are closed without it. When ctx ends first the rest is cut,
// and the error says how many. Run must still be running.
func (h *Hub) Shutdown(ctx context.Context, code wire.CloseCode) error {
	h.registry.drain()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(shutdownDefault)
	}
	for _, s := range h.sessions() {
		h.guard(s, func() { s.stop(deadline, h.retry(), code) })
	}
	if settled(h, time.After(time.Until(deadline)/2)) {
		return nil
	}
	for _, s := range h.sessions() {
		h.guard(s, func() { s.shut(code) })
	}
	if settled(h, ctx.Done()) {
		return nil
	}
	rest := h.sessions()
	if len(rest) == 0 {
		return nil
	}
	for _, s := range rest {
		s.link.Abort()
	}
	return fmt.Errorf("cannot close %d stream connections in time: %w", len(rest), ctx.Err())
}

// retry returns after how long a client shall come back.
func (h *Hub) retry() time.Duration { return retryLeast + rand.N(h.cfg.RetrySpread) }

// settled waits until the last connection is gone, or for over, and reports the first.
func settled[T any](h *Hub, over <-chan T) bool {
	select {
	case <-h.registry.idle:
		return true
	case <-over:
		return false
	}
}

// shut closes with what is being written unfinished.
func (s *Session) shut(code wire.CloseCode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close(code)
}

func (s *Session) stop(deadline time.Time, retry time.Duration, code wire.CloseCode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drain(deadline, retry, code)
	s.flush(time.Now())
}

// reason is the text of a close frame. One for a slow reader says where to go on.
func (s *Session) reason(code wire.CloseCode) string {
	if code != wire.CloseSlow || len(s.members) != 1 {
		return closeReasons[code]
	}
	return closeReasons[code] + "; resume since " + strconv.FormatUint(s.members[0].pos, 10)
}

// closeReasons are the texts that go with the codes.
var closeReasons = map[wire.CloseCode]string{
	wire.CloseGoingAway: "server stops",
	wire.CloseRestart:   "server restarts",
	wire.CloseInternal:  "internal error",
	wire.CloseSlow:      "reading too slowly",
	wire.CloseRate:      "messages too fast",
	wire.CloseSubAbuse:  "subscription limit",
	wire.CloseErrors:    "too many errors",
}

// Leave announces the end of one connection and closes it with code.
func (s *Session) Leave(code wire.CloseCode) {
	s.stop(time.Now().Add(shutdownDefault), s.hub.retry(), code)
}
