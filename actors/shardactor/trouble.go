package shardactor

import (
	"strconv"
	"strings"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/velocimeter/velocimeter/engine/market"
)

const (
	firstBackoff = 100 * market.Millis(1)
	maxBackoff   = 30 * market.Second
	// maxTrouble bounds the memory for failing tokens of a shard. Beyond it a
	// token is still restarted, at once and without backoff.
	maxTrouble = 4096
)

// trouble is the breaker of one token. It opens at the first failure and goes
// away at the first success after it.
type trouble struct {
	failures int
	until    market.Time // engine time before which the token is left alone
	down     bool        // its actor waits, suspended, for the restart
}

var _ actor.SupervisorStrategy = (*Actor)(nil)

// HandleFailure supervises the tokens: the first failure restarts the actor at
// once, every further one after a backoff, for ever. The restart that is due
// later happens when the token's next quote comes.
func (a *Actor) HandleFailure(
	_ *actor.ActorSystem, s actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, _, _ any,
) {
	id, ok := tokenOf(child)
	if !ok {
		s.RestartChildren(child)
		return
	}
	t := a.trouble[id]
	if t == nil {
		t = &trouble{}
		if len(a.trouble) < maxTrouble {
			a.trouble[id] = t
		}
	}
	t.failures++
	pid := a.tokens[id]
	alive := pid != nil && pid.Equal(child) // a token that never came to be has no actor any more
	if t.failures == 1 {
		if alive {
			s.RestartChildren(child)
		}
		return
	}
	t.down = alive
	t.until = a.now.Add(min(firstBackoff<<min(t.failures-2, 16), maxBackoff))
}

// probe is the one delivery that a failing token gets when its backoff is over.
func (a *Actor) probe(c actor.Context, q *market.Quote, t *trouble) {
	if a.now < t.until {
		a.quarantine(c, q, 0)
		return
	}
	if pid, ok := a.tokens[q.ID]; ok && t.down {
		t.down = false
		supervisorOf(c).RestartChildren(pid)
	}
	if a.deliver(c, q) {
		delete(a.trouble, q.ID)
		return
	}
	a.quarantine(c, q, 1)
}

// quarantine gives a quote up. An actor whose token never came to be goes too.
func (a *Actor) quarantine(c actor.Context, q *market.Quote, attempts int) {
	env := a.running.Plan.Env()
	a.deps.Quarantine.add(Quarantined{Token: q.ID, Source: env.Source, Seq: env.Seq, Time: env.Now, Attempts: attempts})
	if !a.shard.Has(q.ID) {
		a.retire(c, q.ID)
	}
	a.shard.Present(q.ID)
}

// forget drops the breakers of tokens that are not tracked and whose backoff is
// long over, so that unknown ids cannot fill the table.
func (a *Actor) forget() {
	for id, t := range a.trouble {
		if a.now.Sub(t.until) > maxBackoff && !a.shard.Has(id) {
			delete(a.trouble, id)
		}
	}
}

// supervisorOf returns the context's supervising side, which protoactor's
// Context interface leaves out.
func supervisorOf(c actor.Context) actor.Supervisor {
	s, ok := c.(actor.Supervisor)
	if !ok {
		panic("BUG: the actor context cannot supervise")
	}
	return s
}

func tokenOf(pid *actor.PID) (market.ID, bool) {
	name := pid.GetId()
	n, err := strconv.ParseUint(name[strings.LastIndexByte(name, '/')+1:], 10, 32)
	return market.ID(n), err == nil
}
