package gate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/valyala/fasthttp"
)

// ErrInUse says that another process listens on the asked port.
var ErrInUse = errors.New("address is in use")

// Server is one HTTP listener with its routes. It is safe for concurrent use.
type Server struct {
	cfg    Config
	http   fasthttp.Server
	router *router
	meters *meters
	ids    idSource
	panics panicLog
	states sync.Pool

	mu        sync.Mutex
	listeners []*listener
	stopped   atomic.Bool // set under mu
}

// New builds a server; it neither listens nor starts a goroutine. Errors name
// a route that cannot be added.
func New(cfg Config, routes ...Route) (*Server, error) {
	cfg.setDefaults()
	s := &Server{cfg: cfg, meters: newMeters(cfg.Metrics, cfg.Name), ids: newIDSource()}
	s.states.New = func() any { return new(state) }
	r, err := newRouter(routes, s.meters.route)
	if err != nil {
		return nil, err
	}
	s.router = r
	s.http = fasthttp.Server{
		Handler:                      s.Handle,
		ErrorHandler:                 s.refuse,
		HeaderReceived:               s.headReceived,
		ExpectHandler:                s.expect,
		Logger:                       printfLogger{cfg.Logger},
		Concurrency:                  cfg.Concurrency,
		ReadBufferSize:               cfg.MaxHeader + cfg.MaxURI + requestLineSlack,
		ReadTimeout:                  cfg.ReadTimeout,
		WriteTimeout:                 cfg.WriteTimeout,
		IdleTimeout:                  cfg.IdleTimeout,
		MaxRequestBodySize:           cfg.MaxBody,
		KeepHijackedConns:            true,
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		CloseOnShutdown:              true,
		SecureErrorLogMessage:        true,
		DisablePreParseMultipartForm: true,
	}
	return s, nil
}

// requestLineSlack is what a request line holds beside its target.
const requestLineSlack = 32

// Listen opens a TCP listener for Serve. The error wraps ErrInUse where the
// port is taken.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("cannot listen on %q: %w", addr, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q: %w", addr, err)
	}
	return ln, nil
}

// Serve accepts connections until Shutdown, then returns nil. It takes ln over.
func (s *Server) Serve(ln net.Listener) error {
	wrapped := newListener(ln, s.cfg, s.meters)
	if !s.adopt(wrapped) {
		return wrapped.Close()
	}
	if err := s.http.Serve(wrapped); err != nil {
		return fmt.Errorf("cannot serve on %q: %w", ln.Addr(), err)
	}
	return nil
}

// adopt notes a listener unless Shutdown was already called: a server that is
// told to stop before it came to serve must not start.
func (s *Server) adopt(ln *listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped.Load() {
		return false
	}
	s.listeners = append(s.listeners, ln)
	return true
}

// Shutdown stops accepting, for good, closes idle connections and waits for
// running requests until ctx ends. Hijacked connections are their owners'
// business.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopped.Store(true)
	for _, ln := range s.listeners {
		_ = ln.Close() // fasthttp closes it too, where it already knows it
	}
	s.mu.Unlock()
	if err := s.http.ShutdownWithContext(ctx); err != nil {
		return fmt.Errorf("cannot finish all requests: %w", err)
	}
	return nil
}
