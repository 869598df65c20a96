//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
)

// asker asks the server for paths with blocking calls on a thread of its own:
// what it measures is not shared with the loop.
type asker struct {
	load *load
	keep bool // the connection
	fd   int  // of the open connection; 0 for none
	wire io.ReadWriter
	buf  [64 << 10]byte
}

func (a *asker) close() {
	if a.fd > 0 {
		_ = syscall.Close(a.fd)
		a.fd = 0
	}
}

func (a *asker) open() error {
	if a.fd > 0 {
		return nil
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot make a socket: %w", err)
	}
	a.fd = fd
	limit := syscall.Timeval{Sec: 10}
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit)
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &limit)
	if err := syscall.Connect(fd, &a.load.to); err != nil {
		a.close()
		return fmt.Errorf("cannot connect: %w", err)
	}
	a.wire = blocking{fd: fd}
	if a.load.cfg.tls {
		a.wire = tls.Client(blocking{fd: fd}, a.load.tlsConfig())
	}
	return nil
}

// get returns the status of the answer once its body is read.
func (a *asker) get(path string) (status int, err error) {
	if err := a.open(); err != nil {
		return 0, err
	}
	if !a.keep {
		defer a.close()
	}
	if _, err := a.wire.Write([]byte("GET " + path + " HTTP/1.1\r\nHost: " + a.load.host + "\r\n\r\n")); err != nil {
		a.close()
		return 0, fmt.Errorf("cannot ask for %q: %w", path, err)
	}
	status, left, err := a.head()
	for left > 0 && err == nil {
		var n int
		n, err = a.read(a.buf[:])
		left -= n
	}
	if err != nil {
		a.close()
		return 0, fmt.Errorf("cannot read the answer to %q: %w", path, err)
	}
	return status, nil
}

// head reads the head of an answer and returns how much of the body is left.
func (a *asker) head() (status, left int, err error) {
	for n := 0; ; {
		k, err := a.read(a.buf[n:])
		if err != nil {
			return 0, 0, err
		}
		n += k
		end := bytes.Index(a.buf[:n], []byte("\r\n\r\n"))
		if end < 0 {
			continue
		}
		head := strings.ToLower(string(a.buf[:end]))
		_, _ = fmt.Sscanf(head, "http/1.1 %d", &status)
		_, length, _ := strings.Cut(head, "content-length:")
		_, _ = fmt.Sscan(length, &left)
		return status, left - (n - end - 4), nil
	}
}

func (a *asker) read(p []byte) (int, error) {
	n, err := a.wire.Read(p)
	if err == nil && n <= 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err //nolint:wrapcheck // get says what it was reading
}

// blocking is a blocking descriptor as crypto/tls wants it.
type blocking struct {
	net.Conn // nil: nothing else is called
	fd       int
}

func (b blocking) Read(p []byte) (int, error) {
	n, err := syscall.Read(b.fd, p)
	if err == nil && n == 0 {
		err = io.EOF
	}
	return max(n, 0), err
}

func (b blocking) Write(p []byte) (int, error) { return syscall.Write(b.fd, p) }
