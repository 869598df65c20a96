package gate

import "net"

// below is what TLS reads from and writes to. Whoever takes an encrypted
// connection over may put something of its own there.
type below struct{ net.Conn }

// Swap puts nc in the place of the connection below TLS and returns what was
// there. No call of the TLS connection may be under way.
func (b *below) Swap(nc net.Conn) (old net.Conn) {
	old, b.Conn = b.Conn, nc
	return old
}

// Unwrap returns the connection below, such as *net.TCPConn.
func (b *below) Unwrap() net.Conn { return b.Conn }
