package sse

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
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
	param               string // the parameter that is wrong
}

func (r *refusal) answer(ctx *fasthttp.RequestCtx) {
	if r.param != "" {
		gate.Problem(ctx, r.status, r.code, r.detail, r.remed, gate.ParamError{Param: r.param, Reason: r.detail})
	} else {
		gate.Problem(ctx, r.status, r.code, r.detail, r.remed)
	}
	if r.header != "" {
		ctx.Response.Header.Set(r.header, r.value)
	}
}

// The refusals that depend on nothing of the request.
var (
	refusedMedia = &refusal{
		status: http.StatusNotAcceptable, code: "not_acceptable", detail: "this is an event stream", remed: "accept text/event-stream",
	}
	refusedToken = &refusal{
		status: http.StatusNotFound, code: "token_not_found", detail: "no tracked token has this id or slug",
		remed: "find it with /api/v1/tokens?symbols= or ?search=; a path takes an id or a slug, not a symbol",
	}
)

func invalid(param, detail string) *refusal {
	return &refusal{
		status: http.StatusBadRequest, code: "invalid_parameter", detail: detail, param: param,
		remed: "correct the parameter listed in errors; see the stream protocol, server-sent events",
	}
}

// refusalOf translates an error of fanout.Hub.Admit.
func refusalOf(err error) *refusal {
	r := &refusal{
		status: http.StatusServiceUnavailable, code: "overloaded", detail: err.Error(), remed: "try again later",
		header: fasthttp.HeaderRetryAfter, value: "1",
	}
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

// accepts reports whether the client takes event streams.
func accepts(ctx *fasthttp.RequestCtx) bool {
	silent := true
	for _, v := range ctx.Request.Header.PeekAll(fasthttp.HeaderAccept) {
		for part := range strings.SplitSeq(strings.ToLower(string(v)), ",") {
			kind, rest, _ := strings.Cut(strings.TrimSpace(part), ";")
			switch strings.TrimSpace(kind) {
			case "text/event-stream", "text/*", "*/*":
				if !unwanted(rest) {
					return true
				}
			case "":
				continue
			}
			silent = false
		}
	}
	return silent
}

// unwanted reports whether the parameters of a media range say that it is none.
func unwanted(rest string) bool {
	for p := range strings.SplitSeq(rest, ";") {
		name, weight, _ := strings.Cut(p, "=")
		if strings.TrimSpace(name) == "q" {
			weight = strings.TrimSpace(weight)
			return weight != "" && strings.Trim(weight, "0.") == ""
		}
	}
	return false
}

// look lists the parameters that go into the subscribe, in the order in which
// they are complained about.
var look = []string{"view", "fields", "rate", "digits"}

// read turns a URL into the subscribe that it stands for; the stream's own
// decoder judges it. id is the path's token, 0 for all.
func read(ctx *fasthttp.RequestCtx, id market.ID) (*wire.Request, *refusal) {
	asked := make(map[string]string)
	for k, v := range ctx.QueryArgs().All() {
		name := string(k)
		if name != "since" && !slices.Contains(look, name) {
			name = gate.Echo(name)
			return nil, invalid(name, `"`+name+`" is not a parameter of this route; it has: `+strings.Join(look, ", ")+", since")
		}
		if _, twice := asked[name]; twice {
			return nil, invalid(name, name+" may be given only once")
		}
		asked[name] = string(v)
	}
	r, bad := decode(asked, id)
	if bad != nil {
		return nil, blame(asked, bad)
	}
	var refused *refusal
	r.Since, refused = since(ctx, asked)
	return r, refused
}

// since returns the position that the client says it has; nil for none.
func since(ctx *fasthttp.RequestCtx, asked map[string]string) (*wire.Position, *refusal) {
	var pos *wire.Position
	if text, ok := asked["since"]; ok {
		if pos, ok = position(text); !ok {
			return nil, invalid("since", "since is <epoch>:<seq>, the id of an event")
		}
	}
	// What a browser sends when it comes back wins over the URL, which is that of
	// its first request. An id that is none of ours begins anew.
	if last := ctx.Request.Header.Peek(lastEventID); len(last) > 0 {
		pos, _ = position(string(last))
	}
	return pos, nil
}

const lastEventID = "Last-Event-ID"

func decode(asked map[string]string, id market.ID) (*wire.Request, *wire.RequestError) {
	m := map[string]any{"op": "subscribe"}
	if id == 0 {
		m["all"] = true
	} else {
		m["tokens"] = []market.ID{id}
	}
	for name, value := range asked {
		switch name {
		case "view", "digits":
			m[name] = value
		case "fields":
			m[name] = strings.Split(value, ",")
		case "rate":
			m[name] = rate(value)
		}
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, &wire.RequestError{Code: wire.BadValue, Text: "the parameters are not text"}
	}
	r, bad := wire.DecodeRequest(text, wire.EncodingJSON)
	return &r, bad
}

// blame finds the parameter that is wrong by itself; what is wrong only together
// is a list of fields beside a view.
func blame(asked map[string]string, bad *wire.RequestError) *refusal {
	for _, name := range look {
		if value, ok := asked[name]; ok {
			if _, alone := decode(map[string]string{name: value}, 0); alone != nil {
				return invalid(name, alone.Text)
			}
		}
	}
	return invalid("fields", bad.Text)
}

// rate is a number where it reads as one.
func rate(value string) any {
	if _, _, err := market.ParseDecimal([]byte(value)); err == nil {
		return json.RawMessage(value)
	}
	return value
}
