package gate

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// What follows a refused head on its connection is never a request, and a body
// that belongs to an answer after which the connection lives on is read.
func TestRefusedBodies(t *testing.T) {
	_, addr := start(t, Config{ReadTimeout: time.Hour}, echoRoutes()...)
	const next = "GET /t/5 HTTP/1.1\r\nHost: h\r\n\r\n"
	f := func(head string, status ...int) {
		t.Helper()
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(c, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"+head+next+next); err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).CloseWrite()
		r := bufio.NewReader(c)
		for i, want := range append([]int{200}, status...) {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatalf("%q: answer %d: %v", head, i, err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != want {
				t.Errorf("%q: answer %d is %d, want %d, %v", head, i, resp.StatusCode, want, err)
			}
			_ = resp.Body.Close()
		}
		if b, err := io.ReadAll(r); len(b) > 0 || err != nil {
			t.Errorf("%q: then came %q, %v", head, b, err)
		}
	}
	const size = "\r\nHost: h\r\nContent-Length: 30\r\n"
	f("POST /a HTTP/1.1"+size+"\r\n", 200, 200) // as long as next
	f("POST /a?key=1 HTTP/1.1"+size+"\r\n", 400, 200)
	f("POST /a?key=1 HTTP/1.1"+size+"Connection: TE, close\r\n\r\n", 400)
	f("POST /a HTTP/1.1"+size+"Transfer-Encoding: chunked\r\n\r\n", 400)
	f("POST /a HTTP/1.1"+size+"Transfer-Encoding: identity\r\n\r\n", 400)
	f("POST //a HTTP/1.1"+size+"\r\n", 400)
	f("BREW /a HTTP/1.1"+size+"\r\n", 501)
	f("GET /a HTTP/1.1"+size+"\r\n", 400)
	f("GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 000\r\n\r\n", 200, 200, 200)
	f("GET http://h/a HTTP/1.1"+size+"\r\n", 400)
}
