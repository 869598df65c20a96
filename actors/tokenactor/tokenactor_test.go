package tokenactor_test

import (
	"log/slog"
	"testing"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/velocimeter/velocimeter/actors/guard"
	"github.com/velocimeter/velocimeter/actors/mailbox"
	"github.com/velocimeter/velocimeter/actors/tokenactor"
	"github.com/velocimeter/velocimeter/engine/market"
)

type steps []market.ID

func (s *steps) Step(q *market.Quote) { *s = append(*s, q.ID) }

func TestActorStepsQuotesOnly(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	g := guard.New(log)
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return log }))
	defer system.Shutdown()
	var s steps
	pid := system.Root.Spawn(tokenactor.Props(&s, mailbox.NewInline(g)))
	system.Root.Send(pid, &market.Quote{ID: 5})
	system.Root.Send(pid, "what is this?")
	if len(s) != 1 || s[0] != 5 {
		t.Errorf("stepped %v", s)
	}
	if r := g.Reports(); len(r) != 1 || r[0].Reason != "BUG: token actor got string" {
		t.Errorf("reports %+v", r)
	}
	system.Root.Stop(pid)
}
