//go:build !linux

package loop

import (
	"crypto/tls"
	"errors"
	"net"

	"github.com/velocimeter/velocimeter/transport/fanout"
)

// Without epoll no connection is taken: goroutines serve all of them.
type (
	loops  struct{}
	polled struct{}
)

func (*loops) take(*Conn, *net.TCPConn) bool { return false }

// Ring is what Linux has for many writes at once.
type Ring struct{}

// NewRing returns an error: there is none.
func NewRing(func(error)) (*Ring, error) { return nil, errors.ErrUnsupported }

// Full implements fanout.Outbox.
func (*Ring) Full() bool { return false }

// Commit implements fanout.Outbox.
func (*Ring) Commit() {}

func (*Conn) stage(*Ring, []fanout.Chunk) bool { return false }

func (*Conn) seal(*tls.Conn, swapper, *net.TCPConn) {}

func (*Conn) writeBatch([]fanout.Chunk) bool { panic("BUG: there is no loop") }
func (*Conn) push()                          {}
func (*Conn) rearm()                         {}
func (*Conn) halfClose()                     {}
func (*Conn) hangUp()                        {}
func (*Conn) enroll()                        {}

// sendBuffer stands in for a bound of what is unsent alone: four times it, so
// that a snapshot need not wait for every acknowledgement.
const sendBuffer = 4

// tune bounds what the kernel keeps for a peer that does not read. Errors leave
// the kernel's defaults.
func tune(tcp *net.TCPConn, cfg *Config) { _ = tcp.SetWriteBuffer(sendBuffer * cfg.Unsent) }
