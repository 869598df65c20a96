package actors

import (
	"bytes"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
)

func TestProtoactorLogsWarningsOnlyAndNoPayload(t *testing.T) {
	var out bytes.Buffer
	var dead atomic.Uint64
	system := newActorSystem(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), &dead)
	defer system.Shutdown()
	for range 10 {
		system.Root.Send(actor.NewPID("nonhost", "nobody"), "the payload")
	}
	if dead.Load() != 10 || out.Len() != 0 {
		t.Errorf("%d dead letters counted, logged %q", dead.Load(), out.String())
	}
	system.Logger().WithGroup("g").Info("quiet")
	system.Logger().WithGroup("g").Warn("loud", "k", 1)
	if got := out.String(); strings.Contains(got, "quiet") || !strings.Contains(got, "component=protoactor g.k=1") {
		t.Errorf("logged %q", got)
	}
}
