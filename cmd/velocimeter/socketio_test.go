package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// poller is a Socket.IO client by polling.
type poller struct {
	*server
	path    string
	packets []string
}

func (s *server) poller() *poller {
	s.t.Helper()
	p := &poller{server: s, path: "/socket.io/?EIO=4&transport=polling"}
	var open struct{ SID string }
	if first := p.next(); first[0] != '0' || json.Unmarshal([]byte(first[1:]), &open) != nil {
		s.t.Fatalf("got %q", first)
	}
	p.path += "&sid=" + open.SID
	p.say("40")
	if hello := p.next(); !strings.HasPrefix(hello, `40{"sid":"`) {
		s.t.Fatalf("got %q", hello)
	}
	return p
}

// next returns the next packet, and answers pings.
func (p *poller) next() string {
	p.t.Helper()
	for len(p.packets) == 0 {
		code, body := p.get(p.path)
		if code != http.StatusOK {
			p.t.Fatalf("%d %s", code, body)
		}
		p.packets = strings.Split(body, "\x1e")
	}
	text := p.packets[0]
	p.packets = p.packets[1:]
	if text == "2" {
		p.say("3")
		return p.next()
	}
	return text
}

func (p *poller) say(packet string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.url+p.path, strings.NewReader(packet))
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "ok" {
		p.t.Fatalf("%d %s", resp.StatusCode, body)
	}
}

// TestSocketIO asks a running server for one token, sees it move, and is told of the
// end.
func TestSocketIO(t *testing.T) {
	s := startServer(t, t.TempDir())
	for code := 0; code != http.StatusOK; {
		code, _ = s.get("/readyz")
		<-time.After(10 * time.Millisecond)
	}
	p := s.poller()
	p.say(`421["subscribe_token","BTC",{"view":"velocity"}]`)
	if ack := p.next(); !strings.HasPrefix(ack, `431[{"ok":true,"subscribed":[1],"unknown":[],"effective":{"`) {
		t.Fatalf("got %s", ack)
	}
	if first := p.next(); !strings.HasPrefix(first, `42["token_update",{"seq":`) || !strings.Contains(first, `"type":"snapshot","token":{"id":1,"symbol":"BTC"`) {
		t.Fatalf("got %s", first)
	}
	if second := p.next(); !strings.Contains(second, `"type":"delta","token":{"id":1,`) {
		t.Fatalf("got %s", second)
	}
	if _, metrics := s.get("/metrics"); !strings.Contains(metrics, "velocimeter_socketio_connections 1\n") {
		t.Error("no metric")
	}
	s.cancel()
	for text := p.next(); !strings.HasPrefix(text, `42["drain",{"type":"drain","deadline_ms":`); text = p.next() {
		if !strings.HasPrefix(text, `42["token_update"`) {
			t.Fatalf("got %s", text)
		}
	}
	if code := <-s.done; code != 0 {
		t.Errorf("exit code %d", code)
	}
	s.done <- 0
}
