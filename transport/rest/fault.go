package rest

import (
	"strconv"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/transport/gate"
)

// fault is an answer that is not a success.
type fault struct {
	status      int
	code        string
	detail      string
	remediation string
	errors      []gate.ParamError
	retryAfter  int // seconds; 0 leaves the header out
}

// answer writes the fault as a problem.
func (f *fault) answer(ctx *fasthttp.RequestCtx) {
	gate.Problem(ctx, f.status, f.code, f.detail, f.remediation, f.errors...)
	if f.retryAfter > 0 {
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, strconv.Itoa(f.retryAfter))
	}
}

// The faults that depend on nothing of the request.
var (
	faultNotReady = fault{
		status: fasthttp.StatusServiceUnavailable, code: "not_ready", retryAfter: 1,
		detail: "the first poll has not been published yet", remediation: "retry after a second; /readyz says what is missing",
	}
	faultInternal = fault{
		status: fasthttp.StatusInternalServerError, code: "internal",
		detail: "the server failed on this request", remediation: "retry; if it goes on failing, report the instance",
	}
	faultToken = fault{
		status: fasthttp.StatusNotFound, code: "token_not_found",
		detail:      "no tracked token has this id or slug",
		remediation: "find it with /api/v1/tokens?symbols= or ?search=; a path takes an id or a slug, not a symbol",
	}
	faultPastToken = fault{
		status: fasthttp.StatusNotFound, code: "token_not_found",
		detail:      "no tracked token has this id, and history has nothing of it in this range",
		remediation: "ask for another range, or find a token with /api/v1/tokens?symbols= or ?search=",
	}
	faultTokenForm = fault{
		status: fasthttp.StatusBadRequest, code: "invalid_parameter",
		detail:      "the token in the path is neither an id (1 to 4294967295) nor a slug",
		remediation: "use an id such as 1 or a slug such as bitcoin",
		errors:      []gate.ParamError{{Param: "id", Reason: "must be a whole number from 1 to 4294967295, or a slug of letters, digits and '-', at most 100"}},
	}
	faultMedia = fault{
		status: fasthttp.StatusNotAcceptable, code: "not_acceptable",
		detail:      "no offered representation matches the Accept or Accept-Encoding header",
		remediation: "accept application/json; /history also has text/csv and application/x-ndjson",
	}
	faultBusy = fault{
		status: fasthttp.StatusServiceUnavailable, code: "busy", retryAfter: 1,
		detail: "too many history questions are under way", remediation: "retry after a second",
	}
	faultSlow = fault{
		status: fasthttp.StatusServiceUnavailable, code: "timeout", retryAfter: 5,
		detail: "the history could not be read in time", remediation: "ask for a shorter range or a coarser granularity",
	}
	faultHistory = fault{
		status: fasthttp.StatusServiceUnavailable, code: "history_unavailable", retryAfter: 5,
		detail: "the history cannot be read at the moment", remediation: "retry later; live values are not affected",
	}
)

// faultArgs turns complaints about parameters into one answer.
func faultArgs(a *args) *fault {
	first := a.faults[0]
	subject := "the parameter " + first.Param
	if first.Param == "" {
		subject = "the name of a parameter"
	}
	return &fault{
		status: fasthttp.StatusBadRequest, code: "invalid_parameter",
		detail:      subject + " " + first.Reason,
		remediation: "correct the parameters listed in errors",
		errors:      a.faults,
	}
}
