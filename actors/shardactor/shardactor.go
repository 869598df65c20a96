package shardactor

import (
	"fmt"
	"strconv"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/velocimeter/velocimeter/actors/guard"
	"github.com/velocimeter/velocimeter/actors/mailbox"
	"github.com/velocimeter/velocimeter/actors/tokenactor"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/tick"
)

// Deps is everything a shard actor does not own, and its state: the tick.Shard
// outlives the actor.
type Deps struct {
	Index int // which of Run.Parts is ours
	Shard *tick.Shard
	// Stepper takes the quotes; nil stands for Shard. Tests inject faults here: a
	// Stepper must call Shard.Step before it panics, or Undo has nothing to undo.
	Stepper    tokenactor.Stepper
	Guard      *guard.Guard
	Quarantine *Quarantine

	tokenProps func(tokenactor.Stepper, actor.MailboxProducer) *actor.Props // set by tests only
}

// Props describes a shard actor. Its mailbox holds at most one Run: the
// supervisor sends the next when all shards have reported.
func Props(d Deps) *actor.Props {
	if d.Stepper == nil {
		d.Stepper = d.Shard
	}
	if d.tokenProps == nil {
		d.tokenProps = tokenactor.Props
	}
	box := mailbox.NewLanes(d.Guard, mailbox.Limits{Count: 1})
	return actor.PropsFromProducer(func() actor.Actor { return newActor(d) }, actor.WithMailbox(box.Producer()))
}

// Actor is one shard's actor and the supervisor of its tokens.
type Actor struct {
	deps    Deps
	shard   *tick.Shard
	props   *actor.Props // of the tokens
	tokens  map[market.ID]*actor.PID
	trouble map[market.ID]*trouble
	again   []*market.Quote // panicked once, waiting for the restart
	running *Run
	now     market.Time // engine time of the running tick
	last    tick.Part   // of the last tick that closed well

	// What became of the message on its way to a token actor.
	entered, done bool
}

func newActor(d Deps) *Actor {
	a := &Actor{
		deps: d, shard: d.Shard,
		tokens: map[market.ID]*actor.PID{}, trouble: map[market.ID]*trouble{},
	}
	a.props = d.tokenProps(a, mailbox.NewInline(d.Guard))
	return a
}

// Receive implements actor.Actor.
func (a *Actor) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *Run:
		a.run(c, m)
	case retry:
		a.retry(c)
	case *Collect:
		a.collect(m)
	case *Drain:
		a.drain(c, m)
	case *actor.Started:
		a.spawnAll(c)
	case *actor.Terminated, *actor.Restarting, *actor.Stopping, *actor.Stopped:
	default:
		panic(fmt.Errorf("BUG: shard actor got %T", m))
	}
}

// spawnAll gives every token that the shard has, restored ones, its actor.
func (a *Actor) spawnAll(c actor.Context) {
	for id := range a.shard.IDs {
		a.spawn(c, id)
	}
}

func (a *Actor) spawn(c actor.Context, id market.ID) *actor.PID {
	pid, err := c.SpawnNamed(a.props, strconv.FormatUint(uint64(id), 10))
	if err != nil {
		panic(fmt.Errorf("BUG: cannot spawn token %d: %w", id, err))
	}
	a.tokens[id] = pid
	return pid
}

func (a *Actor) retire(c actor.Context, id market.ID) {
	if pid, ok := a.tokens[id]; ok {
		delete(a.tokens, id)
		c.Stop(pid)
	}
}

func (a *Actor) collect(m *Collect) {
	defer m.Done()
	if !a.deps.Guard.Do("shard export", func() { a.shard.Export(&m.Exports[a.deps.Index]) }) {
		m.Failed.Store(true)
	}
}

// drain stops the token actors. They work inline, so each has stopped when Stop
// returns and none has anything left to do.
func (a *Actor) drain(c actor.Context, m *Drain) {
	defer m.Done()
	for id := range a.tokens {
		a.retire(c, id)
	}
}
