package admin

import (
	"net/http"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/transport/gate"
)

// recovery answers with what the start found in the store.
func recovery(ctx *fasthttp.RequestCtx, found func() ([]byte, error)) {
	body, err := found()
	if err != nil {
		gate.Problem(ctx, http.StatusInternalServerError, "internal", "the report cannot be written", "report this")
		return
	}
	ctx.SetContentType("application/json")
	ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	ctx.SetBody(body)
}
