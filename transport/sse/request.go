package sse

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/gate"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// refusal is why a request ends without a stream.
type refusal struct {
	status              int
	code, detail, remed string
	header, value       string // one extra response header
}

func (r *refusal) answer(ctx *fasthttp.RequestCtx) {
	gate.Problem(ctx, r.status, r.code, r.detail, r.remed)
	if r.header != "" {
		ctx.Response.Header.Set(r.header, r.value)
	}
}

func invalid(detail string) *refusal {
	return &refusal{status: http.StatusBadRequest, code: "invalid_parameter", detail: detail, remed: "see the stream protocol, server-sent events"}
}

// accepts reports whether the client takes event streams.
func accepts(ctx *fasthttp.RequestCtx) bool {
	all := ctx.Request.Header.PeekAll(fasthttp.HeaderAccept)
	for _, v := range all {
		for part := range strings.SplitSeq(string(v), ",") {
			kind, _, _ := strings.Cut(part, ";")
			switch strings.ToLower(strings.TrimSpace(kind)) {
			case "text/event-stream", "text/*", "*/*":
				return true
			}
		}
	}
	return len(all) == 0
}

// read turns a URL into the subscribe that it stands for; the stream's own
// decoder judges it. id is the path's token, "" for all.
func read(ctx *fasthttp.RequestCtx, id market.ID) (*wire.Request, *refusal) {
	m := map[string]any{"op": "subscribe"}
	if id == 0 {
		m["all"] = true
	} else {
		m["tokens"] = []market.ID{id}
	}
	var since *wire.Position
	seen := map[string]bool{}
	for k, v := range ctx.QueryArgs().All() {
		name, value := string(k), string(v)
		if seen[name] {
			return nil, invalid("the parameter " + name + " is there twice")
		}
		seen[name] = true
		switch name {
		case "view", "digits":
			m[name] = value
		case "fields":
			m[name] = strings.Split(value, ",")
		case "rate":
			m[name] = rate(value)
		case "since":
			var ok bool
			if since, ok = position(value); !ok {
				return nil, invalid("since is <epoch>:<seq>")
			}
		default:
			return nil, invalid("unknown parameter " + strconv.Quote(name) + "; there are view, fields, rate, digits, since")
		}
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, invalid("the parameters are not text")
	}
	r, bad := wire.DecodeRequest(text, wire.EncodingJSON)
	if bad != nil {
		return nil, invalid(bad.Text)
	}
	r.Since = since
	// What a browser sends when it comes back wins over the URL, which is that of
	// its first request. An id that is none of ours begins anew.
	if last := ctx.Request.Header.Peek("Last-Event-ID"); len(last) > 0 {
		r.Since, _ = position(string(last))
	}
	return &r, nil
}

// rate is a number where it reads as one.
func rate(value string) any {
	if _, _, err := market.ParseDecimal([]byte(value)); err == nil {
		return json.RawMessage(value)
	}
	return value
}

// refusalOf translates an error of fanout.Hub.Admit.
func refusalOf(err error) *refusal {
	r := &refusal{http.StatusServiceUnavailable, "overloaded", err.Error(), "try again later", "Retry-After", "1"}
	switch {
	case errors.Is(err, fanout.ErrAddress), errors.Is(err, fanout.ErrKey):
		r.status, r.code, r.value = http.StatusTooManyRequests, "too_many_connections", "10"
	case errors.Is(err, fanout.ErrNotReady):
		r.code = "not_ready"
	case errors.Is(err, fanout.ErrDraining):
		r.code, r.value = "draining", "5"
	}
	return r
}
