//go:build !linux

package ws

import (
	"net"
	"time"
)

// sendBuffer stands in for a bound of what is unsent alone: four times it, so
// that a snapshot need not wait for every acknowledgement.
const sendBuffer = 4

// tune bounds what the kernel keeps for a peer that does not read. Errors leave
// the kernel's defaults.
func tune(tcp *net.TCPConn, unsent int, _ time.Duration) { _ = tcp.SetWriteBuffer(sendBuffer * unsent) }
