package socketio

import "time"

// What one client may send in messages of every kind, attachments too. Its events
// meet the closer limits of the stream before, unless it leaves the namespace and
// enters again; other packets have no limit but this.
const (
	packetBurst = 200 // at once
	packetRate  = 40  // a second, sustained
)

// pace is a token bucket.
type pace struct {
	level float64 // left of the burst
	at    time.Time
}

func newPace(now time.Time) pace { return pace{packetBurst, now} }

// take accounts for one message, and reports whether it may be.
func (p *pace) take(now time.Time) bool {
	p.level = min(packetBurst, p.level+now.Sub(p.at).Seconds()*packetRate)
	p.at = now
	if p.level < 1 {
		return false
	}
	p.level--
	return true
}
