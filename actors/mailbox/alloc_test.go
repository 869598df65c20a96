//go:build !race

package mailbox_test

import (
	"log/slog"
	"testing"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/velocimeter/velocimeter/actors/mailbox"
)

func TestInlineDoesNotAllocate(t *testing.T) {
	send, received := inlineActor()
	msg := &struct{ n int }{}
	if n := testing.AllocsPerRun(1000, func() { send(msg) }); n != 0 {
		t.Errorf("%v allocations a message, want 0", n)
	}
	if *received < 1000 {
		t.Errorf("received %d messages", *received)
	}
}

// BenchmarkInline is the cost of one message through protoactor; the floor is a
// call through an interface.
func BenchmarkInline(b *testing.B) {
	send, _ := inlineActor()
	msg := &struct{ n int }{}
	b.ReportAllocs()
	for b.Loop() {
		send(msg)
	}
}

func inlineActor() (send func(msg any), received *int) {
	system := actor.NewActorSystem(actor.WithLoggerFactory(
		func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
	received = new(int)
	pid := system.Root.Spawn(actor.PropsFromFunc(func(actor.Context) { *received++ },
		actor.WithMailbox(mailbox.NewInline(newGuard()))))
	return func(msg any) { system.Root.Send(pid, msg) }, received
}
