package simulator

import (
	"context"
	"net"
	"sync"

	"github.com/valyala/fasthttp/fasthttputil"
)

// Memory is a listener within the process: the same HTTP server and client
// code, without a port.
type Memory struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// NewMemory returns an open listener.
func NewMemory() *Memory {
	return &Memory{conns: make(chan net.Conn), done: make(chan struct{})}
}

// DialContext connects to the listener; network and address do not matter. It
// has the signature that HTTP clients want. Errors: net.ErrClosed, or the
// context's while nobody accepts.
func (l *Memory) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	pipe := fasthttputil.NewPipeConns()
	select {
	case l.conns <- pipe.Conn2():
		return pipe.Conn1(), nil
	case <-l.done:
		return nil, &net.OpError{Op: "dial", Net: "memory", Addr: memoryAddr{}, Err: net.ErrClosed}
	case <-ctx.Done():
		return nil, &net.OpError{Op: "dial", Net: "memory", Addr: memoryAddr{}, Err: ctx.Err()}
	}
}

// Accept implements net.Listener.
func (l *Memory) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. It may be called more than once.
func (l *Memory) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *Memory) Addr() net.Addr { return memoryAddr{} }

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "memory" }
