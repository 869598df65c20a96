package socketio

import (
	"context"
	"flag"
	"net"
	"os"
	"os/signal"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/transport/gate"
	"github.com/velocimeter/velocimeter/transport/socketio/engineio"
	"github.com/velocimeter/velocimeter/transport/socketio/packet"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/ws"
)

var suiteAt = flag.String("suite", "", "address of the endpoint that TestSuiteServer serves until it is interrupted")

// TestSuiteServer is what the protocol's own test suite, and clients that are tested
// with it, speak to.
func TestSuiteServer(t *testing.T) {
	if *suiteAt == "" {
		t.Skip("no -suite")
	}
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	s := newServer(Config{ConnectWait: time.Second}, engineio.Config{
		PingInterval: 300 * time.Millisecond, PingTimeout: 200 * time.Millisecond, MaxPayload: 1e6,
	}, ws.NewLoops(ws.Config{}))
	s.namespaces[packet.Main], s.namespaces["/custom"] = parrots("/"), parrots("/custom")
	g, err := gate.New(gate.Config{MaxBody: 1e6}, s.Routes()...)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", *suiteAt)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(ln) }()
	<-ctx.Done()
	s.engine.Shutdown(wire.CloseGoingAway)
	if err := s.Wait(context.Background()); err != nil {
		t.Error(err)
	}
	_ = g.Shutdown(context.Background())
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// parrots is a namespace of clients that hear what they say.
type parrots string

func (n parrots) enter(c *client, auth []byte) (occupant, string) {
	p := parrot{string(n), c.link.(*engineio.Session)}
	hello := append(packet.AppendString([]byte(`{"sid":`), p.link.SID()), '}')
	p.link.Send(packet.AppendConnect(nil, p.ns, hello))
	if auth == nil {
		auth = []byte("{}")
	}
	// By itself: the suite does not listen for what comes together with the answer.
	event := packet.AppendEvent(nil, p.ns, "auth", 0, auth)
	time.AfterFunc(5*time.Millisecond, func() { p.link.Send(event) })
	return p, ""
}

type parrot struct {
	ns   string
	link *engineio.Session
}

func (p parrot) event(e *packet.Packet) {
	args := e.AppendItems(nil)
	switch {
	case e.Name == "message" && len(e.Binaries) > 0:
		p.link.Send(packet.AppendBinaryEvent(nil, p.ns, len(e.Binaries), "message-back", args...))
	case e.Name == "message":
		p.link.Send(packet.AppendEvent(nil, p.ns, "message-back", 0, args...))
	case e.Name == "message-with-ack" && len(e.Binaries) > 0:
		p.link.Send(packet.AppendBinaryAck(nil, p.ns, len(e.Binaries), e.ID, args...))
	case e.Name == "message-with-ack":
		p.link.Send(packet.AppendAck(nil, p.ns, e.ID, args...))
	}
	for _, b := range e.Binaries {
		p.link.SendBinary(b)
	}
}

func (parrot) written()   {}
func (parrot) leave(bool) {}
