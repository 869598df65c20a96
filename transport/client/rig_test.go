package client

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/velocimeter/velocimeter/transport/wire"
)

const (
	helloText = `{"type":"hello","protocol":1,"epoch":"k3","seq":812,"server_time":1763661600123,"heartbeat_ms":15000,"source":"market","simulated":true,"limits":{"subscriptions":256,"tokens":50000,"messages_per_second":20,"message_bytes":65536},"schema_url":"/api/v1/schema"}`
	snapText  = `{"type":"snapshot","ch":%d,"seq":812,"source":"market","source_time":1,"received_at":2,"simulated":true,"rows":[{"id":1,"symbol":"BTC","name":"Bitcoin","slug":"bitcoin","price":64010.5},{"id":2,"symbol":"LTC","name":"Litecoin","slug":"litecoin","price":80}]}`
	deltaText = `{"type":"delta","ch":%d,"seq":%d,"prev":%d,"source":"market","source_time":1,"received_at":2,"simulated":true,"rows":[{"id":1,"price":%d}],"removed":[]}`
)

func ackText(id string, sub, ch int, recovered bool, more string) string {
	return fmt.Sprintf(`{"type":"subscribed","id":%q,"sub":%d,"ch":%d,"tokens":2,"unknown":[],"ambiguous":[],"recovered":%t%s,"effective":{"mode":"latest","rate":"tick","deadband_bps":0,"fields":["price"],"encoding":"json","shape":"object","digits":"full","numbers":"number","compression":"none"}}`, id, sub, ch, recovered, more)
}

// server is scripted by a test: each dial of the client is one peer.
type server struct {
	t     *testing.T
	dials chan net.Conn
	tries int
	// refuse answers handshakes, where it is set, instead of the upgrade.
	refuse  string
	deflate bool
}

func newServer(t *testing.T) *server { return &server{t: t, dials: make(chan net.Conn, 16)} }

func (s *server) options(change ...func(*Options)) Options {
	o := Options{URL: "ws://velocimeter.test/api/v1/stream", Dial: func(context.Context, string, string) (net.Conn, error) {
		s.tries++
		ours, theirs := net.Pipe()
		s.dials <- theirs
		return ours, nil
	}}
	for _, c := range change {
		c(&o)
	}
	return o
}

func reconnecting(o *Options) { o.Reconnect = true }

// peer is the server's end of one connection.
type peer struct {
	t    *testing.T
	nc   net.Conn
	br   *bufio.Reader
	head http.Header
}

// accept upgrades the next dial and says hello; nil where it is refused.
func (s *server) accept() *peer {
	nc := <-s.dials
	p := &peer{t: s.t, nc: nc, br: bufio.NewReader(nc)}
	req, err := http.ReadRequest(p.br)
	if err != nil {
		s.t.Errorf("cannot read handshake: %v", err)
		return nil
	}
	p.head = req.Header
	if s.refuse != "" {
		io.WriteString(nc, s.refuse)
		nc.Close()
		return nil
	}
	sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + acceptMagic))
	ext := ""
	if s.deflate {
		ext = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
	}
	fmt.Fprintf(nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n%s\r\n",
		base64.StdEncoding.EncodeToString(sum[:]), req.Header.Get("Sec-WebSocket-Protocol"), ext)
	p.text(helloText)
	return p
}

// frame writes one frame; first is its first byte.
func (p *peer) frame(first byte, data []byte) {
	b := []byte{first}
	switch n := len(data); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	p.nc.SetWriteDeadline(time.Now().Add(time.Minute))
	p.nc.Write(append(b, data...))
}

func (p *peer) say(text string) { p.frame(0x80|opText, []byte(text)) }

func (p *peer) text(format string, args ...any) { p.say(fmt.Sprintf(format, args...)) }

func (p *peer) close(code wire.CloseCode) {
	p.frame(0x80|opClose, binary.BigEndian.AppendUint16(nil, uint16(code)))
	p.nc.Close()
}

// read returns the next frame of the client.
func (p *peer) read() (op byte, data []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(p.br, head[:]); err != nil {
		return 0, nil, err
	}
	n := int(head[1] & 0x7f)
	if n == 126 {
		var long [2]byte
		io.ReadFull(p.br, long[:])
		n = int(binary.BigEndian.Uint16(long[:]))
	}
	if head[1]&0x80 == 0 {
		p.t.Errorf("the client does not mask")
	}
	var mask [4]byte
	io.ReadFull(p.br, mask[:])
	data = make([]byte, n)
	_, err = io.ReadFull(p.br, data)
	for i := range data {
		data[i] ^= mask[i&3]
	}
	return head[0] & 15, data, err
}

// asked is a request of the client.
type asked struct {
	request
	Rate json.RawMessage `json:"rate"`
	raw  string
}

// want reads a request, which must be of the op.
func (p *peer) want(op string) (r asked) {
	_, data, err := p.read()
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if r.raw = string(data); err != nil || r.Op != op {
		p.t.Errorf("got %q %v, want op %s", data, err, op)
	}
	return r
}

// script runs a server against a client in a bubble of its own time.
func script(t *testing.T, serve func(*server), use func(t *testing.T, s *server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			serve(s)
		}()
		use(t, s)
		<-done
		for len(s.dials) > 0 {
			(<-s.dials).Close()
		}
	})
}

func connect(t *testing.T, s *server, change ...func(*Options)) *Client {
	t.Helper()
	c, err := Dial(t.Context(), s.options(change...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// next returns the next event, which must be of the kind.
func next(t *testing.T, c *Client, k Kind) Event {
	t.Helper()
	ev, err := c.Next(t.Context())
	if err != nil || ev.Kind != k {
		t.Fatalf("%s (%+v) %v, want %s", ev.Kind, ev, err, k)
	}
	return ev
}

func subscribe(t *testing.T, c *Client) *Sub {
	t.Helper()
	sub, err := c.Subscribe(t.Context(), Subscription{Symbols: []string{"BTC", "LTC"}})
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func has(s, part string) bool { return strings.Contains(s, part) }
