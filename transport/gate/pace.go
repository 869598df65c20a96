package gate

import "time"

// handshakeBurst is how much time's worth of TLS handshakes may begin at once.
const handshakeBurst = 250 * time.Millisecond

// pace spreads what must not begin all at once. The zero value holds nothing back;
// it is not safe for concurrent use.
type pace struct {
	gap  time.Duration // between two beginnings, in the long run; 0: none
	next time.Time
}

// newPace returns a pace of at most rate beginnings a second, 0 for any number.
func newPace(rate int) pace {
	if rate <= 0 {
		return pace{}
	}
	return pace{gap: time.Second / time.Duration(rate)}
}

// turn returns how long the next one must wait, which it then counts as begun.
func (p *pace) turn(now time.Time) time.Duration {
	if p.gap == 0 {
		return 0
	}
	if earliest := now.Add(-handshakeBurst); p.next.Before(earliest) {
		p.next = earliest
	}
	p.next = p.next.Add(p.gap)
	return p.next.Sub(now)
}
