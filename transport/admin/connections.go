package admin

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/gate"
)

// Limits of a listing.
const (
	connectionsDefault = 100
	connectionsMost    = 10_000
)

// connection is a stream connection as the listing shows it.
type connection struct {
	No            uint64  `json:"no"`
	Address       string  `json:"address"`
	Key           string  `json:"key,omitempty"`
	Transport     string  `json:"transport"`
	Encoding      string  `json:"encoding"`
	AgeSeconds    float64 `json:"age_seconds"`
	Subscriptions int     `json:"subscriptions"`
	Messages      uint64  `json:"messages"`
	Bytes         uint64  `json:"bytes"`
	Conflated     uint64  `json:"conflated"`
	Skipped       uint64  `json:"skipped"`
	SavedBytes    uint64  `json:"saved_bytes"`
	Writing       bool    `json:"writing"`
}

// connections answers with the open stream connections, oldest first.
func connections(ctx *fasthttp.RequestCtx, streams Streams) {
	limit := connectionsDefault
	if raw := ctx.QueryArgs().Peek("limit"); raw != nil {
		n, err := strconv.Atoi(string(raw))
		if err != nil || n < 1 || n > connectionsMost {
			gate.Problem(ctx, http.StatusBadRequest, "invalid_parameter", "limit is not a whole number from 1 to 10000", "send limit=100 or leave it out")
			return
		}
		limit = n
	}
	now := time.Now()
	list := make([]connection, 0)
	for _, c := range streams.Connections(limit) {
		list = append(list, shown(&c, now))
	}
	body, err := json.Marshal(map[string]any{"connections": list})
	if err != nil {
		gate.Problem(ctx, http.StatusInternalServerError, "internal", "the listing cannot be written", "report this")
		return
	}
	ctx.SetContentType("application/json")
	ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	ctx.SetBody(body)
}

func shown(c *fanout.Connection, now time.Time) connection {
	return connection{
		No: c.No, Address: c.Who.Addr.String(), Key: c.Who.Key, Transport: c.Who.Over, Encoding: c.Encoding.String(),
		AgeSeconds: now.Sub(c.Begun).Round(time.Millisecond).Seconds(), Subscriptions: c.Subscriptions, Messages: c.Messages,
		Bytes: c.Bytes, Conflated: c.Conflated, Skipped: c.Skipped, SavedBytes: c.Saved, Writing: c.Writing,
	}
}
