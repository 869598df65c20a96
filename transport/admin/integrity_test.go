package admin

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

type integrityOf struct {
	last    *IntegrityReport
	running bool
	err     error
}

func (i integrityOf) Integrity() (*IntegrityReport, bool) { return i.last, i.running }

func (i integrityOf) CheckIntegrity() error { return i.err }

func TestIntegrity(t *testing.T) {
	f := func(method, from string, of integrityOf, status int, want string) {
		t.Helper()
		var ctx fasthttp.RequestCtx
		var req fasthttp.Request
		req.Header.SetMethod(method)
		req.SetRequestURI("/integrity")
		ctx.Init(&req, &net.TCPAddr{IP: net.ParseIP(from), Port: 1234}, nil)
		if method == "POST" {
			checkIntegrity(&ctx, of)
		} else {
			integrity(&ctx, of)
		}
		if body := string(ctx.Response.Body()); ctx.Response.StatusCode() != status || !strings.Contains(body, want) {
			t.Errorf("%s from %s, %+v: got %d %s, want %d %s", method, from, of, ctx.Response.StatusCode(), body, status, want)
		}
		if ctx.Response.Header.Peek("Cache-Control") == nil {
			t.Errorf("%s from %s: may be cached", method, from)
		}
	}
	f("GET", "127.0.0.1", integrityOf{}, 200, `{"last":null,"running":false}`)
	f("GET", "192.0.2.1", integrityOf{running: true}, 200, `"running":true`)
	f("GET", "127.0.0.1", integrityOf{last: &IntegrityReport{Records: 7, Differences: []IntegrityDifference{{Kind: "tick", What: "x"}}}}, 200,
		`"differences":[{"kind":"tick","what":"x"}]`)
	f("POST", "127.0.0.1", integrityOf{}, 202, `{"running":true}`)
	f("POST", "127.0.0.1", integrityOf{err: ErrIntegrityBusy}, 409, "integrity_running")
	f("POST", "127.0.0.1", integrityOf{err: errors.New("stopping")}, 503, "stopping")
	f("POST", "192.0.2.1", integrityOf{}, 403, "forbidden")
}
