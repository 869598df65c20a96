//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// load is the generator: its connections, one epoll set and what was counted.
type load struct {
	cfg    *settings
	to     syscall.SockaddrInet4
	host   string
	ep     int
	conns  []*conn
	byFD   map[int32]*conn
	events [512]syscall.EpollEvent
	buf    []byte

	secured  chan secured
	waiting  []*conn // to be dialled
	dialing  int     // handshakes under way
	limit    int
	live     int
	redial   bool // connections that end come back
	refused  int  // handshakes that failed or were refused
	dropped  int  // established connections that ended
	received tally

	connectSeconds, connectCPU float64 // of start
}

// tally is what came since the last reset.
type tally struct {
	rows, messages, bytes, gaps, snapshots, bad int64
	latency                                     histogram
}

// newLoad resolves the address and makes the connections, of which none is open.
func newLoad(c *settings) (*load, error) {
	addr, err := netip.ParseAddrPort(c.addr)
	if err != nil || !addr.Addr().Is4() {
		return nil, fmt.Errorf("cannot use address %q: want IPv4 host:port", c.addr)
	}
	l := &load{cfg: c, host: c.addr, limit: c.dialing, byFD: make(map[int32]*conn), buf: make([]byte, 1<<20), secured: make(chan secured)}
	l.to = syscall.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}
	if l.ep, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("cannot make an epoll set: %w", err)
	}
	return l, nil
}

// populate makes the connections with their subscriptions.
func (l *load) populate() error {
	var ids []uint32
	if t := l.cfg.tokens; t > 0 || t == -1 {
		var err error
		if ids, err = l.universe(); err != nil {
			return err
		}
	}
	rng := rand.New(rand.NewPCG(l.cfg.seed, 1))
	for range l.cfg.n {
		c := &conn{load: l, fd: -1, small: l.cfg.mode == "stall"}
		switch n := l.cfg.tokens; {
		case n == 0:
			c.selection = `"all":true`
		case n == -2:
		case n < 0:
			c.selection = `"tokens":[` + strconv.Itoa(int(ids[0])) + `]`
		default:
			c.selection = choose(rng, ids, n)
		}
		l.conns = append(l.conns, c)
	}
	return nil
}

func choose(rng *rand.Rand, ids []uint32, n int) string {
	out := []byte(`"tokens":[`)
	taken := make(map[uint32]bool, n)
	for len(taken) < min(n, len(ids)) {
		id := ids[rng.IntN(len(ids))]
		if taken[id] {
			continue
		}
		if len(taken) > 0 {
			out = append(out, ',')
		}
		taken[id] = true
		out = strconv.AppendUint(out, uint64(id), 10)
	}
	return string(append(out, ']'))
}

// connectAll opens every connection and returns when all are subscribed.
func (l *load) connectAll(limit time.Duration) error {
	l.waiting = append(l.waiting, l.conns...)
	end := time.Now().Add(limit)
	for l.live < len(l.conns) {
		if time.Now().After(end) {
			return fmt.Errorf("cannot connect: %d of %d connections are there after %s, %d handshakes failed", l.live, len(l.conns), limit, l.refused)
		}
		l.turn(20 * time.Millisecond)
	}
	return nil
}

// runFor reads for a time and forgets what was counted before.
func (l *load) runFor(d time.Duration) {
	l.received = tally{}
	for end := time.Now().Add(d); time.Now().Before(end); {
		l.turn(20 * time.Millisecond)
	}
}

// turn dials who waits and serves one round of events.
func (l *load) turn(wait time.Duration) {
	l.dial()
	if l.cfg.tls && l.dialing > 0 {
		l.adopt()
		wait = min(wait, time.Millisecond)
	}
	n, err := syscall.EpollWait(l.ep, l.events[:], int(wait.Milliseconds()))
	if err != nil {
		return // interrupted
	}
	for _, ev := range l.events[:n] {
		if c := l.byFD[ev.Fd]; c != nil {
			c.ready(ev.Events)
		}
	}
}

// dial begins handshakes for those who wait and whose time has come.
func (l *load) dial() {
	if len(l.waiting) == 0 || l.dialing >= l.limit {
		return
	}
	now, later := time.Now(), l.waiting[:0]
	for _, c := range l.waiting {
		if l.dialing >= l.limit || c.notBefore.After(now) {
			later = append(later, c)
			continue
		}
		c.connect()
	}
	l.waiting = later
}
