package engineio

import (
	"context"
	"flag"
	"net"
	"os"
	"os/signal"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/transport/gate"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/ws"
)

var echoAt = flag.String("echo", "", "address of the echo endpoint /engine.io/ that TestEchoServer serves until it is interrupted")

// TestEchoServer is what the protocol's own test suite speaks to, with the times and
// sizes that it asks for.
func TestEchoServer(t *testing.T) {
	if *echoAt == "" {
		t.Skip("no -echo")
	}
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	s := New(Config{Path: "/engine.io/", PingInterval: 300 * time.Millisecond, PingTimeout: 200 * time.Millisecond, MaxPayload: 1e6},
		ws.NewLoops(ws.Config{}), func(one *Session, _ Opening) Handler { return echo{one} })
	g, err := gate.New(gate.Config{MaxBody: 1e6}, s.Routes()...)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", *echoAt)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(ln) }()
	<-ctx.Done()
	s.Shutdown(wire.CloseGoingAway)
	if err := s.Wait(context.Background()); err != nil {
		t.Error(err)
	}
	_ = g.Shutdown(context.Background())
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// echo sends back what it is sent.
type echo struct{ session *Session }

func (e echo) Text(p []byte)     { e.session.Send(p) }
func (e echo) Binary(p []byte)   { e.session.SendBinary(p) }
func (echo) Written()            {}
func (echo) Gone(wire.CloseCode) {}
