package fanout

import (
	"time"

	"github.com/velocimeter/velocimeter/transport/wire"
)

// gate bounds what one client may ask: a token bucket for messages and a count
// of errors within a minute.
type gate struct {
	rate, burst float64
	level       float64 // tokens in the bucket
	at          time.Time
	refused     int // in a row

	most   int // errors that end the connection
	minute time.Time
	errors int
	limits int // errors of code limit among them
}

type verdict uint8

const (
	pass verdict = iota
	refuse
	shut
)

const (
	// refusedMost is how many messages in a row may meet error rate.
	refusedMost = 20
	// limitsMost is how many errors of code limit a minute may hold.
	limitsMost = 3
)

func (g *gate) start(cfg *Config, now time.Time) {
	g.rate, g.burst, g.most = float64(cfg.MessagesPerSecond), float64(cfg.MessageBurst), cfg.ErrorsPerMinute
	g.level, g.at, g.minute = g.burst, now, now
}

// message accounts for one message; wait is when the next would pass.
func (g *gate) message(now time.Time) (wait time.Duration, v verdict) {
	g.level = min(g.burst, g.level+now.Sub(g.at).Seconds()*g.rate)
	g.at = now
	if g.level >= 1 {
		g.level--
		g.refused = 0
		return 0, pass
	}
	wait = time.Duration((1 - g.level) / g.rate * float64(time.Second))
	if g.refused++; g.refused > refusedMost {
		return wait, shut
	}
	return wait, refuse
}

// failure accounts for one error and returns the code to close with, or 0.
func (g *gate) failure(code wire.ErrorCode, now time.Time) wire.CloseCode {
	if now.Sub(g.minute) >= time.Minute {
		g.minute, g.errors, g.limits = now, 0, 0
	}
	g.errors++
	if code == wire.Limit {
		if g.limits++; g.limits >= limitsMost {
			return wire.CloseSubAbuse
		}
	}
	if g.errors >= g.most {
		return wire.CloseErrors
	}
	return 0
}
