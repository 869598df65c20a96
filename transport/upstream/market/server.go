package simulator

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	keyParam  = "CMC_PRO_API_KEY"
	keyHeader = "X-CMC_PRO_API_KEY"
	// keylessPrefix goes before the paths that work without a key.
	keylessPrefix    = "/public-api"
	oldKeylessPrefix = "/trial-pro-api"

	// maxHeader bounds the request line with all headers: 5,000 ids fit.
	maxHeader = 64 << 10
	// maxPooled bounds the buffers that are kept for the next answer.
	maxPooled = 16 << 20
	// minGzip is the body from which compression is worth its while.
	minGzip = 1 << 10
)

func (m *Market) newServer() *fasthttp.Server {
	return &fasthttp.Server{
		Handler:                      m.Handler(),
		SecureErrorLogMessage:        true, // an error must not quote a header with a key
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		Concurrency:                  1024,
		ReadBufferSize:               maxHeader,
		ReadTimeout:                  10 * time.Second,
		WriteTimeout:                 60 * time.Second,
		IdleTimeout:                  90 * time.Second,
		MaxRequestBodySize:           1 << 10,
		DisablePreParseMultipartForm: true,
		CloseOnShutdown:              true,
		Logger:                       serverLog{m.cfg.Logger},
	}
}

// serverLog takes what fasthttp says about bad connections.
type serverLog struct{ logger *slog.Logger }

// Printf implements fasthttp.Logger.
func (l serverLog) Printf(format string, args ...any) {
	l.logger.Debug("market connection", "detail", fmt.Sprintf(format, args...))
}

// Serve answers on a listener until Shutdown. It returns nil after Shutdown.
func (m *Market) Serve(ln net.Listener) error { return m.server.Serve(ln) }

// Shutdown closes the listeners and waits for running requests, at most until
// the context ends.
func (m *Market) Shutdown(ctx context.Context) error { return m.server.ShutdownWithContext(ctx) }

// Handler returns the API as a handler of a fasthttp server.
func (m *Market) Handler() func(*fasthttp.RequestCtx) {
	return func(ctx *fasthttp.RequestCtx) {
		defer func() {
			if r := recover(); r != nil {
				m.cfg.Logger.Error("market handler panic", "reason", fmt.Sprint(r), "stack", string(debug.Stack()))
				m.fail(ctx, 1, faultInternal)
			}
		}()
		m.serve(ctx)
	}
}

// dataBuffers keeps the bytes of data members between answers.
var dataBuffers = sync.Pool{New: func() any { return new([]byte) }}

func (m *Market) serve(ctx *fasthttp.RequestCtx) {
	path := string(ctx.Path())
	rest, keyless := strings.CutPrefix(path, keylessPrefix)
	if !keyless {
		rest, keyless = strings.CutPrefix(path, oldKeylessPrefix)
	}
	e := endpoints[rest]
	if e == nil || !ctx.IsGet() && !ctx.IsHead() {
		ctx.SetStatusCode(fasthttp.StatusNotFound)
		ctx.SetContentType("application/json; charset=utf-8")
		ctx.SetBodyString(`{"statusCode":404,"error":"Not Found","message":"Not Found"}`)
		return
	}
	version := e.version
	if keyless {
		version = 3 // keyless routes say error_code as text, as v3 does
	}
	c := &call{market: m, now: m.cfg.Now(), version: e.version, total: -1}
	if f := m.admit(ctx, c, e, keyless); f != nil {
		m.fail(ctx, version, f)
		return
	}
	buf := dataBuffers.Get().(*[]byte)
	c.data = (*buf)[:0]
	f := c.run(ctx.URI().QueryString(), e)
	if f == nil {
		o := outcome{
			now: c.now, elapsed: m.cfg.Now().Sub(c.now), version: version,
			credits: c.credits, total: c.total, notice: m.accounts.charge(c.now, c.account, c.credits),
		}
		m.send(ctx, fasthttp.StatusOK, &o, c.data)
	} else {
		m.fail(ctx, version, f)
	}
	if cap(c.data) <= maxPooled {
		*buf = c.data
		dataBuffers.Put(buf)
	}
}

// admit checks the key, or the address of a keyless request.
func (m *Market) admit(ctx *fasthttp.RequestCtx, c *call, e *endpoint, keyless bool) (f *fault) {
	if keyless {
		if !e.keyless {
			return faultKeyRequired
		}
		return m.accounts.admitAddress(c.now, ctx.RemoteIP().String())
	}
	key := ctx.Request.Header.Peek(keyHeader)
	if len(key) == 0 {
		key = ctx.QueryArgs().Peek(keyParam)
	}
	c.account, f = m.accounts.admit(c.now, string(key), e.excluded)
	return f
}

// run checks the parameters and has the endpoint make the data.
func (c *call) run(query []byte, e *endpoint) (f *fault) {
	if e.answer == nil {
		return faultPlan
	}
	if c.params, f = parseParams(query, e.rules); f != nil {
		return f
	}
	if c.market.faulty() {
		return faultInternal
	}
	if c.table = c.market.at(c.now); c.table == nil {
		return faultInternal
	}
	return e.answer(c)
}

// fail sends an error: a status object and no data member.
func (m *Market) fail(ctx *fasthttp.RequestCtx, version int, f *fault) {
	o := outcome{now: m.cfg.Now(), version: version, fault: f, notice: f.notice, total: -1}
	m.send(ctx, f.http, &o, nil)
}

// send writes the envelope, gzipped for those who ask for it.
func (m *Market) send(ctx *fasthttp.RequestCtx, code int, o *outcome, data []byte) {
	ctx.Response.Reset()
	ctx.SetStatusCode(code)
	ctx.SetContentType("application/json; charset=utf-8")
	ctx.Response.Header.Set("Vary", "Accept-Encoding")
	head := make([]byte, 0, 512)
	head = o.appendStatus(append(head, '{'))
	if o.fault == nil {
		head = append(head, `,"data":`...)
	}
	if len(data) < minGzip || !ctx.Request.Header.HasAcceptEncoding("gzip") {
		ctx.Response.AppendBody(head)
		ctx.Response.AppendBody(data)
		ctx.Response.AppendBody([]byte{'}'})
		return
	}
	ctx.Response.Header.SetContentEncoding("gzip")
	body := append(append(head, data...), '}')
	ctx.Response.SetBodyRaw(fasthttp.AppendGzipBytesLevel(nil, body, fasthttp.CompressBestSpeed))
}
