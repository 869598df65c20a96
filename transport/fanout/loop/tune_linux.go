package loop

import (
	"net"
	"syscall"
)

// Socket options of Linux that package syscall does not name.
const (
	tcpUserTimeout  = 18
	tcpNotSentLowat = 25
)

// tune bounds what the kernel keeps for a peer that does not read, and for how
// long it tries one that does not answer. What is on the way is left to TCP's own
// window: a small send buffer would make a snapshot wait for every acknowledgement,
// which peers delay by 40 ms. Errors leave the kernel's defaults.
func tune(tcp *net.TCPConn, cfg *Config) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, cfg.Unsent)
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(cfg.Silence.Milliseconds()))
	})
}
