// Package tokenactor hosts one tracked token. The token's state machine and
// its windows belong to the shard (engine/tick), so a restarted actor goes on
// with everything its predecessor knew; the actor is what fails, restarts and
// stops on its own, without touching any other token.
package tokenactor

import (
	"fmt"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Stepper hands a quote to the state machine of its token. It is called on the
// goroutine of the token's shard.
type Stepper interface {
	Step(q *market.Quote)
}

// Props describes the actors of one shard's tokens. The message of a token
// actor is *market.Quote, sent by its shard; the mailbox must be inline.
func Props(s Stepper, mailbox actor.MailboxProducer) *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor { return New(s) }, actor.WithMailbox(mailbox))
}

// New returns one incarnation.
func New(s Stepper) *Actor { return &Actor{stepper: s} }

// Actor is one token's actor.
type Actor struct{ stepper Stepper }

// Receive implements actor.Actor.
func (a *Actor) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *market.Quote:
		a.stepper.Step(m)
	case *actor.Started, *actor.Restarting, *actor.Stopping, *actor.Stopped:
	default:
		panic(fmt.Errorf("BUG: token actor got %T", m))
	}
}
