package rest

import (
	"slices"
	"strconv"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/transport/gate"
)

// Version says which program answers.
type Version struct {
	Version string // of the release, such as 0.1.0
	Commit  string // "" where unknown
	Built   string // RFC 3339; "" where unknown
	Go      string // of the toolchain
}

// Operations returns /healthz, /readyz and /version, which both listeners have.
func Operations(boards Boards, ready Readiness, v Version) []gate.Route {
	return []gate.Route{
		{Method: "GET", Path: "/healthz", Serve: func(ctx *fasthttp.RequestCtx) {
			answerNow(ctx, fasthttp.StatusOK, []byte(`{"status":"ok"}`))
		}},
		{Method: "GET", Path: "/readyz", Serve: func(ctx *fasthttp.RequestCtx) {
			status, body := readiness(boards, ready)
			answerNow(ctx, status, body)
		}},
		{Method: "GET", Path: "/version", Serve: func(ctx *fasthttp.RequestCtx) { answerNow(ctx, fasthttp.StatusOK, v.json()) }},
	}
}

// answerNow writes a small answer that nobody may keep.
func answerNow(ctx *fasthttp.RequestCtx, status int, body []byte) {
	if len(ctx.URI().QueryString()) > 0 {
		args := parseArgs(string(ctx.URI().QueryString()), nil)
		faultArgs(args).answer(ctx)
		return
	}
	ctx.SetStatusCode(status)
	ctx.Response.Header.SetContentType(mediaTypes[mediaJSON])
	ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	if status == fasthttp.StatusServiceUnavailable {
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, "1")
	}
	ctx.Response.SetBodyRaw(body)
}

// readiness is 200 "ready" when every gate is open, 200 "degraded" while last
// good values are served, and 503 "not_ready" before the first tick or while a
// fatal gate is closed.
func readiness(boards Boards, ready Readiness) (status int, body []byte) {
	gates := ready.Gates()
	state, status := "ready", fasthttp.StatusOK
	for _, g := range gates {
		if !g.OK {
			state = "degraded"
		}
	}
	fatal := func(g Gate) bool { return !g.OK && g.Fatal }
	if boards.Board() == nil || anyGate(gates, fatal) {
		state, status = "not_ready", fasthttp.StatusServiceUnavailable
	}
	dst := append(appendName([]byte(`{"status":`), state), `,"gates":[`...)
	for i, g := range gates {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(append(dst, `{"name":`...), g.Name)
		dst = strconv.AppendBool(append(dst, `,"ok":`...), g.OK)
		dst = appendString(append(dst, `,"detail":`...), g.Detail)
		dst = append(dst, '}')
	}
	return status, append(dst, `]}`...)
}

func anyGate(gates []Gate, match func(Gate) bool) bool {
	return slices.ContainsFunc(gates, match)
}

func (v Version) json() []byte {
	dst := appendString([]byte(`{"name":"velocimeter","version":`), v.Version)
	dst = appendName(append(dst, `,"commit":`...), v.Commit)
	dst = appendName(append(dst, `,"built":`...), v.Built)
	dst = appendString(append(dst, `,"go":`...), v.Go)
	return append(dst, '}')
}
