package rest

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/gate"
)

// request is what a route's parser sees. Nothing in it aliases the connection's buffers.
type request struct {
	board *market.Board
	now   market.Time
	query string
	token string // {id} of the path
	media func(offered media) media
}

// parser turns a request into a plan, or refuses it.
type parser func(r *request) (*plan, *fault)

// plan is a validated question.
type plan struct {
	key   string // normalised question; equal keys have equal answers at one tick and instant
	media media
	// past says that the answer also depends on the history store, so that its
	// ETag is known only after encoding.
	past  bool
	build func(m *moment, out *output) *fault
}

// output is an answer while it is encoded.
type output struct {
	body []byte
	link string // Link header; "" for none
	tag  []byte // what the ETag bears beside epoch, seq and generation
	// fixed says that the answer is of no tick in particular: its ETag has no seq.
	fixed bool
}

// handler serves one route.
func (a *API) handler(parse parser) gate.Handler {
	return func(ctx *fasthttp.RequestCtx) {
		board := a.cfg.Boards.Board()
		if board == nil {
			faultNotReady.answer(ctx)
			return
		}
		wall := ctx.Time()
		if plainAccept(ctx.Request.Header.Peek(fasthttp.HeaderAccept)) {
			if e := a.cache.byTarget(ctx.RequestURI()); e != nil && e.current(board, wall) {
				a.meters.hits.Inc()
				a.respond(ctx, e)
				return
			}
		}
		a.serve(ctx, board, wall, parse)
	}
}

// serve is the slow path: the target was not seen at this tick and second.
func (a *API) serve(ctx *fasthttp.RequestCtx, board *market.Board, wall time.Time, parse parser) {
	accept := ctx.Request.Header.Peek(fasthttp.HeaderAccept)
	_, query, _ := bytes.Cut(ctx.RequestURI(), []byte{'?'})
	r := &request{board: board, now: a.cfg.Now(), query: string(query), token: string(gate.Param(ctx, "id"))}
	r.media = func(offered media) media { return pickMedia(string(accept), offered) }
	p, f := parse(r)
	if f == nil && p.media == noMedia {
		f = &faultMedia
	}
	if f != nil {
		f.answer(ctx)
		return
	}
	if tag := a.boardTag(board); !p.past && matchesTag(ctx, tag) {
		a.notModified(ctx, tag, board.SourceTime)
		return
	}
	e, f := a.entry(p, board, r.now, wall)
	if f != nil {
		f.answer(ctx)
		return
	}
	if e.media == mediaJSON && plainAccept(accept) {
		a.cache.alias(ctx.RequestURI(), e)
	}
	a.respond(ctx, e)
}

// entry returns the answer to a plan, encoding it only if nobody has.
func (a *API) entry(p *plan, board *market.Board, now market.Time, wall time.Time) (*entry, *fault) {
	if e := a.cache.byKey(p.key); e != nil && e.current(board, wall) {
		a.meters.hits.Inc()
		return e, nil
	}
	return a.cache.once(flightKey{p.key, board.Seq}, func() (*entry, *fault) {
		if e := a.cache.byKey(p.key); e != nil && e.current(board, wall) {
			return e, nil // encoded between the look and the flight
		}
		a.meters.encodes.Inc()
		return a.encode(p, board, now, wall)
	})
}

// encode builds the body in scratch memory and keeps a copy of its exact size.
func (a *API) encode(p *plan, board *market.Board, now market.Time, wall time.Time) (*entry, *fault) {
	buf, _ := a.scratch.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	out := &output{body: (*buf)[:0]}
	m := &moment{board: board, now: now, processing: a.cfg.Processing()}
	if f := p.build(m, out); f != nil {
		return nil, f
	}
	e := &entry{
		key: p.key, epoch: board.Epoch, seq: board.Seq, asOf: board.SourceTime, built: wall, media: p.media,
		raw: bytes.Clone(out.body), etag: a.tag(board, out.tag),
	}
	if out.fixed {
		e.etag = a.fixedTag(board.Epoch, out.tag)
	}
	if out.link != "" {
		e.link = []byte(out.link)
	}
	if *buf = out.body; cap(*buf) <= maxScratch {
		a.scratch.Put(buf)
	}
	a.cache.put(e)
	return e, nil
}

// maxScratch bounds the encoding buffers that are kept, in bytes.
const maxScratch = 4 << 20

func (a *API) boardTag(b *market.Board) []byte { return a.tag(b, nil) }

// tag makes the weak ETag W/"epoch-seq-generation", with more before the end.
func (a *API) tag(b *market.Board, more []byte) []byte {
	t := make([]byte, 0, 64)
	t = append(append(t, `W/"`...), b.Epoch...)
	t = strconv.AppendUint(append(t, '-'), b.Seq, 10)
	if more == nil {
		return append(t, a.suffix...)
	}
	t = append(t, a.suffix[:len(a.suffix)-1]...)
	return append(append(append(t, '-'), more...), '"')
}

// fixedTag makes the weak ETag W/"epoch-at-generation-tag" of an answer that ticks
// do not change.
func (a *API) fixedTag(epoch string, tag []byte) []byte {
	t := append(append(make([]byte, 0, 64), `W/"`...), epoch...)
	t = append(append(t, "-at"...), a.suffix[:len(a.suffix)-1]...)
	return append(append(append(t, '-'), tag...), '"')
}

// respond writes an entry: the hot path, which allocates nothing.
func (a *API) respond(ctx *fasthttp.RequestCtx, e *entry) {
	if matchesTag(ctx, e.etag) {
		a.notModified(ctx, e.etag, e.asOf)
		return
	}
	c := codingOf(ctx.Request.Header.Peek(fasthttp.HeaderAcceptEncoding))
	if c == noCoding {
		faultMedia.answer(ctx)
		return
	}
	body, used, grew := e.body(c)
	if grew > 0 {
		a.cache.grew(e, grew)
	}
	h := &ctx.Response.Header
	h.SetContentType(mediaTypes[e.media])
	if used != identity {
		h.SetContentEncoding(codingNames[used])
	}
	if e.link != nil {
		h.SetBytesV("Link", e.link)
	}
	a.validators(ctx, e.etag, e.asOf)
	ctx.Response.SetBodyRaw(body)
}

// codingOf knows what common clients send by heart.
func codingOf(header []byte) coding {
	switch string(header) {
	case "":
		return identity
	case "gzip", "gzip, deflate":
		return gzipCoding
	case "gzip, deflate, br", "br":
		return brotliCoding
	case "zstd":
		return zstdCoding
	case "gzip, deflate, br, zstd":
		return brotliCoding
	}
	return pickCoding(string(header))
}

// validators sets what lets a client or cache ask again cheaply: answers may be
// stored but are to be revalidated each time, for a tick may come any moment.
func (a *API) validators(ctx *fasthttp.RequestCtx, tag []byte, asOf market.Time) {
	h := &ctx.Response.Header
	h.SetBytesV(fasthttp.HeaderETag, tag)
	h.Set(fasthttp.HeaderCacheControl, "no-cache")
	h.Set(fasthttp.HeaderVary, "Accept, Accept-Encoding, Origin")
	var buf [20]byte
	seconds := max(a.cfg.Now().Sub(asOf), 0) / market.Second
	h.SetBytesV(fasthttp.HeaderAge, strconv.AppendInt(buf[:0], int64(seconds), 10))
}

func (a *API) notModified(ctx *fasthttp.RequestCtx, tag []byte, asOf market.Time) {
	a.meters.notModified.Inc()
	ctx.SetStatusCode(fasthttp.StatusNotModified)
	a.validators(ctx, tag, asOf)
}

// matchesTag compares If-None-Match weakly (RFC 9110, 13.1.2).
func matchesTag(ctx *fasthttp.RequestCtx, tag []byte) bool {
	header := ctx.Request.Header.Peek(fasthttp.HeaderIfNoneMatch)
	if len(header) == 0 {
		return false
	}
	if bytes.Equal(header, tag) || string(header) == "*" {
		return true
	}
	want := strings.TrimPrefix(string(tag), "W/")
	for item := range strings.SplitSeq(string(header[:min(len(header), maxAccept)]), ",") {
		if strings.TrimPrefix(strings.Trim(item, " \t"), "W/") == want {
			return true
		}
	}
	return false
}
