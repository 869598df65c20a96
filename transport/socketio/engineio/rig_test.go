package engineio

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"github.com/velocimeter/velocimeter/transport/gate"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/ws"
)

// rig is a server behind a real gate on loopback.
type rig struct {
	t      *testing.T
	server *Server
	addr   string
	client *http.Client

	mu   sync.Mutex
	last *recorder // the newest session's
}

// recorder is a handler that notes what it is told. It echoes texts that begin with
// "echo", panics on "panic", and closes its session on "close".
type recorder struct {
	session *Session
	opening Opening
	notes   chan string
}

func (r *recorder) Text(p []byte) {
	switch text := string(p); {
	case strings.HasPrefix(text, "echo"):
		r.session.Send(p)
	case text == "panic":
		panic("as told")
	case text == "close":
		r.session.Send([]byte("bye"))
		r.session.Close(wire.CloseErrors, "as told")
	default:
		r.notes <- "text " + text
	}
}

func (r *recorder) Binary(p []byte)          { r.notes <- "binary " + string(p) }
func (r *recorder) Written()                 { r.notes <- "written" }
func (r *recorder) Gone(code wire.CloseCode) { r.notes <- "gone " + itoa(int(code)) }

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func newRecorder(s *Session, o Opening) *recorder {
	return &recorder{session: s, opening: o, notes: make(chan string, 64)}
}

// expect takes the next note.
func (r *recorder) expect(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-r.notes:
		if got != want {
			t.Errorf("the handler was told %q, want %q", got, want)
		}
	case <-time.After(5 * time.Second):
		t.Errorf("the handler was not told %q", want)
	}
}

// goroutines serve the websockets of rigs, not loops.
var goroutines bool

// TestGoroutines repeats what has to do with websockets where there are no loops.
func TestGoroutines(t *testing.T) {
	goroutines = true
	defer func() { goroutines = false }()
	t.Run("messages", TestSocketMessages)
	t.Run("ends", TestSocketEnds)
	t.Run("upgrade", TestUpgrade)
	t.Run("bad upgrades", TestBadUpgrades)
	t.Run("panic", TestOpenPanics)
	t.Run("nothing is left", TestNothingIsLeft)
}

func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	r := &rig{t: t, client: &http.Client{Transport: &http.Transport{}}}
	r.server = New(cfg, ws.NewLoops(ws.Config{CloseWait: 200 * time.Millisecond, Goroutines: goroutines}), func(s *Session, o Opening) Handler {
		rec := newRecorder(s, o)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.last = rec
		return rec
	})
	g, err := gate.New(gate.Config{MaxBody: 32 << 10}, r.server.Routes()...)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := gate.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- g.Serve(ln) }()
	t.Cleanup(func() {
		r.server.Shutdown(wire.CloseGoingAway)
		short, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.server.Wait(short); err != nil {
			t.Error(err)
		}
		r.client.CloseIdleConnections()
		_ = g.Shutdown(short)
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return r
}

// newest returns the handler of the newest session.
func (r *rig) newest() *recorder {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// do makes a request; header lines come in pairs.
func (r *rig) do(method, query, body string, header ...string) (int, string, http.Header) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+r.addr+"/socket.io/?"+query, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if body == "" {
		req.Body = nil
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := r.client.Do(req)
	if err != nil {
		r.t.Error(err)
		return 0, "", nil
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Error(err)
	}
	return res.StatusCode, string(text), res.Header
}

// want makes a request and compares the answer.
func (r *rig) want(status int, body, method, query, send string) {
	r.t.Helper()
	gotStatus, got, _ := r.do(method, query, send)
	if gotStatus != status || got != body {
		r.t.Errorf("%s %s %.40q: got %d %s, want %d %s", method, query, send, gotStatus, got, status, body)
	}
}

const poll = "EIO=4&transport=polling"

func (r *rig) get(sid string, status int, body string) {
	r.t.Helper()
	r.want(status, body, "GET", poll+"&sid="+sid, "")
}

func (r *rig) post(sid, send string, status int, body string) {
	r.t.Helper()
	r.want(status, body, "POST", poll+"&sid="+sid, send)
}

const (
	isUnknown = `{"code":1,"message":"Session ID unknown"}`
	isBad     = `{"code":3,"message":"Bad request"}`
)

// dead checks that a session is over, for whoever asks.
func (r *rig) dead(sid string) {
	r.t.Helper()
	r.get(sid, 400, isUnknown)
	r.post(sid, "4x", 400, isUnknown)
}

// begin opens a session by polling.
func (r *rig) begin() (sid string, rec *recorder) {
	r.t.Helper()
	status, body, _ := r.do("GET", poll, "")
	if status != 200 || !strings.HasPrefix(body, "0{") {
		r.t.Fatalf("got %d %s", status, body)
	}
	var open struct{ SID string }
	if err := json.Unmarshal([]byte(body[1:]), &open); err != nil {
		r.t.Fatal(err)
	}
	return open.SID, r.newest()
}

// held makes a poll, and returns its answer once that is there. It returns when the
// poll is held.
func (r *rig) held(rec *recorder, sid string) <-chan string {
	r.t.Helper()
	out := make(chan string, 1)
	go func() {
		status, body, _ := r.do("GET", poll+"&sid="+sid, "")
		out <- itoa(status) + " " + body
	}()
	eventually(r.t, func() bool {
		rec.session.mu.Lock()
		defer rec.session.mu.Unlock()
		return rec.session.held != nil
	})
	return out
}

func eventually(t *testing.T, is func() bool) {
	t.Helper()
	end := time.Now().Add(5 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is() {
		if time.Now().After(end) {
			t.Fatal("it did not come to that")
		}
		<-tick.C
	}
}

// socketClient is a websocket of a client.
type socketClient struct {
	t  *testing.T
	ws *websocket.Conn
}

// dial opens a websocket from a local address, "" for any.
func (r *rig) dial(query, from string, header ...string) (*socketClient, *http.Response) {
	r.t.Helper()
	d := websocket.Dialer{NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		if from != "" {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
		}
		return d.DialContext(ctx, network, addr)
	}}
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	c, res, err := d.DialContext(context.Background(), "ws://"+r.addr+"/socket.io/?"+query, h)
	if err != nil {
		if res == nil {
			r.t.Fatal(err)
		}
		return nil, res
	}
	r.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	return &socketClient{r.t, c}, res
}

const socketQuery = "EIO=4&transport=websocket"

// connect begins a session by websocket.
func (r *rig) connect() (*socketClient, *recorder) {
	r.t.Helper()
	before := r.newest()
	c, res := r.dial(socketQuery, "")
	if c == nil {
		r.t.Fatalf("status %d", res.StatusCode)
	}
	if _, p, err := c.ws.ReadMessage(); err != nil || !strings.HasPrefix(string(p), `0{"sid":"`) || !strings.Contains(string(p), `"upgrades":[]`) {
		r.t.Fatalf("got %s, %v", p, err)
	}
	eventually(r.t, func() bool { return r.newest() != before })
	return c, r.newest()
}

func (c *socketClient) say(text string) {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.t.Error(err)
	}
}

func (c *socketClient) hear(want string) {
	c.t.Helper()
	if _, p, err := c.ws.ReadMessage(); err != nil || string(p) != want {
		c.t.Errorf("heard %s, %v, want %s", p, err, want)
	}
}

// closed reads up to the end and compares the close code.
func (c *socketClient) closed(want int) {
	c.t.Helper()
	for {
		_, _, err := c.ws.ReadMessage()
		if err == nil {
			continue
		}
		if !websocket.IsCloseError(err, want) {
			c.t.Errorf("ended with %v, want code %d", err, want)
		}
		return
	}
}

// raw sends bytes on a connection of their own and returns the answer's status.
func (r *rig) raw(text string) int {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.WriteString(nc, text)
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		r.t.Error(err)
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}
