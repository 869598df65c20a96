package fanout

import (
	"errors"
	"net/netip"
	"sync"
	"time"
)

// Errors of Admit.
var (
	ErrFull     = errors.New("too many connections")
	ErrAddress  = errors.New("too many connections from this address")
	ErrKey      = errors.New("too many connections with this key")
	ErrDraining = errors.New("the server is stopping")
	ErrNotReady = errors.New("no market yet")
)

// registry counts the connections of the stream; the HTTP server forgets them
// with the upgrade. Bounded by the connections themselves.
type registry struct {
	mu    sync.Mutex
	total int
	by    map[netip.Prefix]int
	keys  map[string]int
	stop  bool
	over  chan struct{} // closed with stop
	idle  chan struct{} // closed once stopped and empty

	next time.Time // when the newest connection may begin

	most, perAddress, perKey, rate int
	loopback                       bool // counted like any other
}

func newRegistry(cfg *Config) *registry {
	return &registry{
		by: make(map[netip.Prefix]int), keys: make(map[string]int), over: make(chan struct{}), idle: make(chan struct{}),
		most: cfg.Connections, perAddress: cfg.PerAddress, perKey: cfg.PerKey, rate: cfg.Handshakes, loopback: cfg.CountLoopback,
	}
}

// Visitor is who asks for a connection.
type Visitor struct {
	Addr netip.Addr
	Key  string // id of the key that it showed; "" for none, which has no limit of its own
	Over string // the transport, for listings, such as "websocket"
}

// Lease is the right to one connection.
type Lease struct {
	from   *registry
	who    Visitor
	prefix netip.Prefix // zero where exempt
	once   sync.Once
}

// Admit asks for a connection before its upgrade, and waits for its turn: in a
// storm of clients that come back, the rest of the server goes on. Errors:
// ErrNotReady, ErrDraining, ErrFull, ErrAddress, ErrKey. The lease is given back by
// Session.Detach, or by Release where no session came of it.
func (h *Hub) Admit(who Visitor) (*Lease, error) {
	if !h.Ready() {
		return nil, ErrNotReady
	}
	l, err := h.registry.admit(who)
	if err != nil {
		h.stats.refused.Add(1)
		return nil, err
	}
	if wait := h.registry.turn(time.Now()); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-h.registry.over:
			l.Release()
			return nil, ErrDraining
		}
	}
	return l, nil
}

// turnBurst is how much time's worth of connections may begin at once.
const turnBurst = 250 * time.Millisecond

// turn returns how long the next connection must wait so that no more than the
// configured number begin in a second.
func (g *registry) turn(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if earliest := now.Add(-turnBurst); g.next.Before(earliest) {
		g.next = earliest
	}
	g.next = g.next.Add(time.Second / time.Duration(g.rate))
	return g.next.Sub(now)
}

func (g *registry) admit(who Visitor) (*Lease, error) {
	l := &Lease{from: g, who: who, prefix: g.prefixOf(who.Addr)}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.stop:
		return nil, ErrDraining
	case g.total >= g.most:
		return nil, ErrFull
	case l.prefix.IsValid() && g.by[l.prefix] >= g.perAddress:
		return nil, ErrAddress
	case who.Key != "" && g.keys[who.Key] >= g.perKey:
		return nil, ErrKey
	}
	g.total++
	if who.Key != "" {
		g.keys[who.Key]++
	}
	if l.prefix.IsValid() {
		g.by[l.prefix]++
	}
	return l, nil
}

// prefixOf returns what an address is counted as: itself, or the /64 of an IPv6
// one; the zero prefix for what is exempt and for what is no address.
func (g *registry) prefixOf(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() || addr.IsLoopback() && !g.loopback {
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
		if l.who.Key != "" {
			if g.keys[l.who.Key]--; g.keys[l.who.Key] == 0 {
				delete(g.keys, l.who.Key)
			}
		}
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
		close(g.over)
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
