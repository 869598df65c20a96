package fanout

import (
	"errors"
	"net/netip"
	"sync"
)

// Errors of Admit.
var (
	ErrFull     = errors.New("too many connections")
	ErrAddress  = errors.New("too many connections from this address")
	ErrDraining = errors.New("the server is stopping")
	ErrNotReady = errors.New("no market yet")
)

// registry counts the connections of the stream; the HTTP server forgets them
// with the upgrade. Bounded by the connections themselves.
type registry struct {
	mu    sync.Mutex
	total int
	by    map[netip.Prefix]int
	stop  bool
	idle  chan struct{} // closed once stopped and empty

	most, perAddress int
}

func newRegistry(cfg *Config) *registry {
	return &registry{by: make(map[netip.Prefix]int), idle: make(chan struct{}), most: cfg.Connections, perAddress: cfg.PerAddress}
}

// Lease is the right to one connection.
type Lease struct {
	from   *registry
	prefix netip.Prefix // zero where exempt
	once   sync.Once
}

// Admit asks for a connection from an address before its upgrade. Errors:
// ErrNotReady, ErrDraining, ErrFull, ErrAddress. The lease is given back by
// Session.Detach, or by Release where no session came of it.
func (h *Hub) Admit(addr netip.Addr) (*Lease, error) {
	if !h.Ready() {
		return nil, ErrNotReady
	}
	l, err := h.registry.admit(addr)
	if err != nil {
		h.stats.refused.Add(1)
	}
	return l, err
}

func (g *registry) admit(addr netip.Addr) (*Lease, error) {
	l := &Lease{from: g, prefix: prefixOf(addr)}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.stop:
		return nil, ErrDraining
	case g.total >= g.most:
		return nil, ErrFull
	case l.prefix.IsValid() && g.by[l.prefix] >= g.perAddress:
		return nil, ErrAddress
	}
	g.total++
	if l.prefix.IsValid() {
		g.by[l.prefix]++
	}
	return l, nil
}

// prefixOf returns what an address is counted as: itself, or the /64 of an IPv6
// one; the zero prefix for loopback and for what is no address.
func prefixOf(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() || addr.IsLoopback() {
		return netip.Prefix{}
	}
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits)
	return p
}

// Release gives the connection back; only the first call counts.
func (l *Lease) Release() {
	l.once.Do(func() {
		g := l.from
		g.mu.Lock()
		defer g.mu.Unlock()
		g.total--
		g.settle()
		if !l.prefix.IsValid() {
			return
		}
		if g.by[l.prefix]--; g.by[l.prefix] == 0 {
			delete(g.by, l.prefix)
		}
	})
}

func (g *registry) drain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.stop {
		g.stop = true
		g.settle()
	}
}

// settle tells Shutdown that the last connection is gone.
func (g *registry) settle() {
	if g.stop && g.total == 0 {
		close(g.idle)
	}
}

func (g *registry) draining() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stop
}

func (g *registry) open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.total
}
