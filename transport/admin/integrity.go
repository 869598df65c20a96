package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/transport/gate"
)

// Integrity checks the running program against its own store.
type Integrity interface {
	// Integrity returns the report of the newest pass that ended, nil before, and
	// whether one runs.
	Integrity() (last *IntegrityReport, running bool)
	// CheckIntegrity has a pass begin. Errors: ErrIntegrityBusy, others.
	CheckIntegrity() error
}

// ErrIntegrityBusy says that a pass is running already.
var ErrIntegrityBusy = errors.New("an integrity pass is running already")

// IntegrityReport is what a pass found, as the listener answers it.
type IntegrityReport struct {
	OK         bool      `json:"ok"`
	Started    time.Time `json:"started"`
	TookMs     int64     `json:"took_ms"`
	DurableSeq uint64    `json:"durable_seq"`
	Records    uint64    `json:"records"`
	Recomputed uint64    `json:"recomputed"`
	Unchecked  uint64    `json:"unchecked_minutes"`
	// Seq is the board's whose values were compared last; 0 where none were.
	Seq             uint64                `json:"seq"`
	Tokens          uint64                `json:"tokens"`
	Ticks           uint64                `json:"ticks"`
	Values          uint64                `json:"values"`
	Skipped         string                `json:"skipped,omitempty"`
	DifferenceCount uint64                `json:"difference_count"`
	ByKind          map[string]uint64     `json:"by_kind"`
	Differences     []IntegrityDifference `json:"differences"`
}

// IntegrityDifference is something that is not what it should be.
type IntegrityDifference struct {
	Kind       string     `json:"kind"`
	Key        string     `json:"key,omitempty"`
	Token      uint32     `json:"token,omitempty"`
	Time       *time.Time `json:"time,omitempty"`
	FromSeq    uint64     `json:"from_seq,omitempty"`
	ToSeq      uint64     `json:"to_seq,omitempty"`
	Field      string     `json:"field,omitempty"`
	Served     string     `json:"served,omitempty"`
	Recomputed string     `json:"recomputed,omitempty"`
	What       string     `json:"what"`
}

// integrity answers with the newest report.
func integrity(ctx *fasthttp.RequestCtx, checks Integrity) {
	last, running := checks.Integrity()
	answerIntegrity(ctx, http.StatusOK, map[string]any{"running": running, "last": last})
}

// checkIntegrity has a pass begin; its report is read later.
func checkIntegrity(ctx *fasthttp.RequestCtx, checks Integrity) {
	if !local(ctx) {
		gate.Problem(ctx, http.StatusForbidden, "forbidden", "a pass is asked for from the machine itself only", "ask there, or wait for the next one")
		return
	}
	switch err := checks.CheckIntegrity(); {
	case errors.Is(err, ErrIntegrityBusy):
		gate.Problem(ctx, http.StatusConflict, "integrity_running", err.Error(), "read its report at GET /integrity when it has ended")
	case err != nil:
		gate.Problem(ctx, http.StatusServiceUnavailable, "unavailable", err.Error(), "ask again when the program runs")
	default:
		answerIntegrity(ctx, http.StatusAccepted, map[string]any{"running": true})
	}
}

func answerIntegrity(ctx *fasthttp.RequestCtx, status int, answer map[string]any) {
	body, err := json.Marshal(answer)
	if err != nil {
		gate.Problem(ctx, http.StatusInternalServerError, "internal", "the answer cannot be written", "report this")
		return
	}
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json")
	ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	ctx.SetBody(body)
}
