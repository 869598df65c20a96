package fanout

import (
	"slices"
	"time"

	"github.com/velocimeter/velocimeter/transport/wire"
)

// Connection is what the hub knows of an open connection.
type Connection struct {
	No            uint64 // since the hub was made, from 1
	Who           Visitor
	Encoding      wire.Encoding
	Begun         time.Time
	Subscriptions int
	Messages      uint64 // handed to the link
	Bytes         uint64 // likewise, framed
	Conflated     uint64 // catch-ups after it had fallen behind
	Skipped       uint64 // rounds that found it still writing
	Saved         uint64 // bytes of shared messages that the catch-ups spared it
	Writing       bool   // the link holds what it could not write
}

// Connections returns the open connections, oldest first, at most limit of them.
func (h *Hub) Connections(limit int) []Connection {
	all := h.sessions()
	slices.SortFunc(all, func(a, b *Session) int { return a.begun.Compare(b.begun) })
	all = all[:min(limit, len(all))]
	list := make([]Connection, len(all))
	for i, s := range all {
		list[i] = s.info()
	}
	return list
}

func (s *Session) info() Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Connection{
		No: s.no, Who: s.peer.Lease.who, Encoding: s.peer.Encoding, Begun: s.begun, Subscriptions: len(s.subs),
		Messages: s.counts.messages, Bytes: s.counts.bytes, Conflated: s.counts.conflated, Skipped: s.counts.skipped,
		Saved: s.counts.saved, Writing: s.writing,
	}
}

// Disconnect closes the connections that match, and returns how many there were.
func (h *Hub) Disconnect(code wire.CloseCode, match func(c *Connection) bool) (n int) {
	for _, s := range h.sessions() {
		if c := s.info(); match(&c) {
			s.shut(code)
			n++
		}
	}
	return n
}
