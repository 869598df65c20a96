package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/transport/gate"
)

// Backups makes backups of the running store.
type Backups interface {
	// Backup makes and verifies one, of the named lineage or, with "", of the one
	// that is served. Errors: ErrBackupBusy, ErrBackupLineage, ErrBackupStopping, others.
	Backup(ctx context.Context, lineage string) (*Backup, error)
}

// Errors of Backups that have answers of their own.
var (
	// ErrBackupBusy says that one is being made already.
	ErrBackupBusy = errors.New("a backup is being made already")
	// ErrBackupLineage says that another lineage is served.
	ErrBackupLineage = errors.New("another lineage is served")
	// ErrBackupStopping says that the server stops, and so does the backup.
	ErrBackupStopping = errors.New("the server is being stopped, the backup was broken off")
)

// Backup is a finished backup as the listener answers it.
type Backup struct {
	Dir     string    `json:"dir"`
	Lineage string    `json:"lineage"`
	Epoch   string    `json:"epoch"`
	Seq     uint64    `json:"seq"`
	Time    time.Time `json:"time"` // of the seq
	Made    time.Time `json:"made"`
	Records uint64    `json:"records"`
	Bytes   int64     `json:"bytes"`
	TookMs  int64     `json:"took_ms"`
}

// local reports whether a request comes from this machine, and from no web page.
func local(ctx *fasthttp.RequestCtx) bool {
	ip := ctx.RemoteIP()
	return (ip.IsLoopback() || !ip.IsUnspecified() && ip.Equal(ctx.LocalIP())) && len(ctx.Request.Header.Peek(fasthttp.HeaderOrigin)) == 0
}

// backup makes a backup and answers when it is verified.
func backup(ctx *fasthttp.RequestCtx, backups Backups) {
	if !local(ctx) {
		gate.Problem(ctx, http.StatusForbidden, "forbidden", "a backup is asked for from the machine itself only", "run `velocimeter backup` there")
		return
	}
	b, err := backups.Backup(ctx, string(ctx.QueryArgs().Peek("lineage")))
	switch {
	case errors.Is(err, ErrBackupBusy):
		gate.Problem(ctx, http.StatusConflict, "backup_running", err.Error(), "wait for it to end")
		return
	case errors.Is(err, ErrBackupStopping):
		gate.Problem(ctx, http.StatusServiceUnavailable, "unavailable", err.Error(), "ask again when it runs")
		return
	case errors.Is(err, ErrBackupLineage):
		gate.Problem(ctx, http.StatusNotFound, "not_found", err.Error(), "leave lineage out, or stop the server to back up others")
		return
	case err != nil:
		gate.Problem(ctx, http.StatusInternalServerError, "backup_failed", err.Error(), "mend the cause and ask again; the server goes on")
		return
	}
	body, err := json.Marshal(b)
	if err != nil {
		gate.Problem(ctx, http.StatusInternalServerError, "internal", "the answer cannot be written", "report this")
		return
	}
	ctx.SetContentType("application/json")
	ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	ctx.SetBody(body)
}
