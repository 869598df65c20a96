package upstreamtest

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
)

// Listener is a network in memory: Dial gives a connection to whoever accepts.
type Listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once

	mu    sync.Mutex
	addrs []string
}

// NewListener returns an open listener.
func NewListener() *Listener {
	return &Listener{conns: make(chan net.Conn), done: make(chan struct{})}
}

// Dial connects, whatever the address; Dialed remembers it.
func (l *Listener) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	l.mu.Lock()
	l.addrs = append(l.addrs, address)
	l.mu.Unlock()
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Dialed returns the addresses that were dialled so far.
func (l *Listener) Dialed() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.addrs)
}

// Accept waits for a connection.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and Dial.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr returns a name.
func (l *Listener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// Serve starts an HTTP server on l; stop ends it and waits for its handlers.
func Serve(l *Listener, h http.Handler) (stop func()) {
	var wg sync.WaitGroup
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wg.Add(1)
		defer wg.Done()
		h.ServeHTTP(w, r)
	})}
	wg.Go(func() { _ = srv.Serve(l) })
	return func() {
		_ = srv.Close()
		wg.Wait()
	}
}

// zeros is an endless stream of one byte.
type zeros byte

// Read fills p.
func (z zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(z)
	}
	return len(p), nil
}

// spaces returns n bytes of JSON white space.
func spaces(n int64) io.Reader { return io.LimitReader(zeros(' '), n) }
