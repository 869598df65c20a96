package admin

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

type backupsOf struct{ err error }

func (b backupsOf) Backup(_ context.Context, lineage string) (*Backup, error) {
	return &Backup{Dir: "/b/x", Lineage: lineage, Seq: 7}, b.err
}

func TestBackup(t *testing.T) {
	f := func(from, origin string, err error, status int, want string) {
		t.Helper()
		var ctx fasthttp.RequestCtx
		var req fasthttp.Request
		req.Header.SetMethod("POST")
		req.SetRequestURI("/backup?lineage=live")
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		ctx.Init(&req, &net.TCPAddr{IP: net.ParseIP(from), Port: 1234}, nil)
		backup(&ctx, backupsOf{err})
		if body := string(ctx.Response.Body()); ctx.Response.StatusCode() != status || !strings.Contains(body, want) {
			t.Errorf("from %s %q, %v: got %d %s, want %d %s", from, origin, err, ctx.Response.StatusCode(), body, status, want)
		}
		if ctx.Response.Header.Peek("Cache-Control") == nil {
			t.Errorf("from %s: may be cached", from)
		}
	}
	f("127.0.0.1", "", nil, 200, `"lineage":"live","epoch":"","seq":7`)
	f("::1", "", nil, 200, `"dir":"/b/x"`)
	f("192.0.2.1", "", nil, 403, "forbidden")
	f("127.0.0.1", "http://example.org", nil, 403, "forbidden")
	f("127.0.0.1", "", ErrBackupBusy, 409, "backup_running")
	f("127.0.0.1", "", ErrBackupStopping, 503, "unavailable")
	f("127.0.0.1", "", ErrBackupLineage, 404, "not_found")
	f("127.0.0.1", "", errors.New("no space"), 500, "no space")
}
