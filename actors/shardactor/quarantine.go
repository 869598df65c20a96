package shardactor

import (
	"log/slog"
	"sync"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// maxQuarantined bounds the kept list; the newest win.
const maxQuarantined = 256

// Quarantined is a quote that its token could not take.
type Quarantined struct {
	Token    market.ID
	Source   market.Source
	Seq      uint64
	Time     market.Time // engine time of the tick
	Attempts int         // deliveries that panicked; 0 where the token was being left alone
}

// Quarantine keeps the newest 256 refused quotes of all shards, counts all of
// them and logs at most one a second. Safe for concurrent use.
type Quarantine struct {
	log *slog.Logger

	mu    sync.Mutex
	total uint64
	next  time.Time
	list  []Quarantined
}

// NewQuarantine returns an empty list that logs to log.
func NewQuarantine(log *slog.Logger) *Quarantine { return &Quarantine{log: log} }

// Total counts the quarantined quotes.
func (q *Quarantine) Total() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.total
}

// List returns the newest quarantined quotes, oldest first.
func (q *Quarantine) List() []Quarantined {
	q.mu.Lock()
	defer q.mu.Unlock()
	return append([]Quarantined(nil), q.list...)
}

func (q *Quarantine) add(e Quarantined) {
	q.mu.Lock()
	q.total++
	if len(q.list) == maxQuarantined {
		copy(q.list, q.list[1:])
		q.list = q.list[:maxQuarantined-1]
	}
	q.list = append(q.list, e)
	now := time.Now()
	loud := !now.Before(q.next)
	if loud {
		q.next = now.Add(time.Second)
	}
	total := q.total
	q.mu.Unlock()
	if loud {
		q.log.Error("quote quarantined", "token", uint32(e.Token), "source", e.Source.String(), "seq", e.Seq,
			"attempts", e.Attempts, "total", total)
	}
}
