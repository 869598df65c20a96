package ws

import (
	"encoding/base64"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/gate"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// refusal is why a handshake ends before the upgrade.
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
	if r.status == fasthttp.StatusUpgradeRequired { // RFC 9110 section 15.5.22, RFC 6455 section 4.4
		ctx.Response.Header.Set("Connection", "Upgrade")
		ctx.Response.Header.Set("Upgrade", "websocket")
		ctx.Response.Header.Set("Sec-WebSocket-Version", "13")
	}
}

// check looks at a handshake more strictly than the upgrader does and makes the
// request plain for it: one value of each header. It returns what was agreed, or
// what to refuse.
func (s *Server) check(ctx *fasthttp.RequestCtx) (t terms, r *refusal) {
	h := &ctx.Request.Header
	if len(ctx.URI().QueryString()) > 0 {
		return t, &refusal{400, "invalid_parameter", "the stream takes no query", "send options in subscribe", "", ""}
	}
	if r = plain(ctx, s.cfg.Origins); r != nil {
		return t, r
	}
	sub, ok := subprotocol(h)
	if !ok {
		return t, &refusal{
			400, "unknown_subprotocol", "none of the offered sub-protocols is spoken",
			"offer " + wire.SubprotocolJSON + ", " + wire.SubprotocolBinary + " or none", "", "",
		}
	}
	h.Del("Sec-WebSocket-Protocol")
	if sub != "" {
		h.Set("Sec-WebSocket-Protocol", sub)
	}
	if sub == wire.SubprotocolBinary { // it is as short as it gets
		return terms{binary: true}, nil
	}
	return negotiate(h.PeekAll("Sec-WebSocket-Extensions")), nil
}

// plain checks what does not depend on choices, and makes the rest plain for the
// upgrader.
func plain(ctx *fasthttp.RequestCtx, origins []string) *refusal {
	h := &ctx.Request.Header
	switch {
	case !h.IsHTTP11():
		return &refusal{400, "bad_handshake", "a WebSocket needs HTTP/1.1", "use HTTP/1.1", "", ""}
	case !hasToken(h, "Connection", "upgrade") || !hasToken(h, "Upgrade", "websocket"):
		return &refusal{426, "upgrade_required", "this path speaks WebSocket only", "send Connection: Upgrade and Upgrade: websocket", "", ""}
	}
	if v := h.PeekAll("Sec-WebSocket-Version"); len(v) != 1 || string(v[0]) != "13" {
		return &refusal{426, "unsupported_version", "only WebSocket version 13 is spoken", "send Sec-WebSocket-Version: 13", "", ""}
	}
	if v := h.PeekAll("Sec-WebSocket-Key"); len(v) != 1 || !validKey(string(v[0])) {
		return &refusal{400, "bad_handshake", "Sec-WebSocket-Key is not 16 bytes in base64", "send one fresh key", "", ""}
	}
	if !OriginAllowed(ctx, origins) {
		return &refusal{403, "origin_not_allowed", "this origin may not open the stream", "ask the operator to allow the origin", "", ""}
	}
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", "websocket")
	return nil
}

func values(h *fasthttp.RequestHeader, name string) []string {
	var out []string
	for _, v := range h.PeekAll(name) {
		for part := range strings.SplitSeq(string(v), ",") {
			out = append(out, strings.Trim(part, " \t"))
		}
	}
	return out
}

func hasToken(h *fasthttp.RequestHeader, name, token string) bool {
	return slices.ContainsFunc(values(h, name), func(v string) bool { return strings.EqualFold(v, token) })
}

// validKey reports whether the key is 16 bytes in base64.
func validKey(key string) bool {
	raw, err := base64.StdEncoding.Strict().DecodeString(key)
	return err == nil && len(raw) == 16 && !strings.ContainsAny(key, "\r\n")
}

// subprotocol takes the first offered one that is spoken; "" where none is offered.
func subprotocol(h *fasthttp.RequestHeader) (chosen string, ok bool) {
	offered := values(h, "Sec-WebSocket-Protocol")
	for _, name := range offered {
		if name == wire.SubprotocolJSON || name == wire.SubprotocolBinary {
			return name, true
		}
	}
	return "", len(offered) == 0
}

// OriginAllowed lets in clients without an Origin (they are no browsers; cookies
// mean nothing here), pages of this very host, and configured origins.
func OriginAllowed(ctx *fasthttp.RequestCtx, origins []string) bool {
	all := ctx.Request.Header.PeekAll("Origin")
	if len(all) == 0 {
		return true
	}
	origin := string(all[0])
	if len(all) > 1 {
		return false
	}
	if slices.Contains(origins, origin) {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return false
	}
	standard := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	if standard == "" || u.Host == "" {
		return false
	}
	host := strings.TrimSuffix(string(ctx.Host()), standard)
	return strings.EqualFold(strings.TrimSuffix(u.Host, standard), host)
}

// Refuse answers a request that fanout.Hub.Admit refused with the error.
func Refuse(ctx *fasthttp.RequestCtx, err error) { refusalOf(err).answer(ctx) }

// refusalOf translates an error of fanout.Hub.Admit.
func refusalOf(err error) *refusal {
	r := &refusal{503, "overloaded", err.Error(), "try again later", "Retry-After", "1"}
	switch {
	case errors.Is(err, fanout.ErrAddress), errors.Is(err, fanout.ErrKey):
		r.status, r.code, r.value = 429, "too_many_connections", "10"
	case errors.Is(err, fanout.ErrNotReady):
		r.code = "not_ready"
	case errors.Is(err, fanout.ErrDraining):
		r.code, r.value = "draining", "5"
	}
	return r
}

// addrOf returns the peer's address, or the zero one where it has no IP.
func addrOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr()
	}
	return netip.Addr{}
}
