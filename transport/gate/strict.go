package gate

import (
	"bytes"

	"github.com/valyala/fasthttp"
)

// violation is a request that the gate refuses before routing. Values are
// shared and constant: nothing of the request goes into them.
type violation struct {
	status      int
	code        string
	detail      string
	remediation string
	keep        bool // the framing is sound, so the connection may live on
	param       string
}

// answer writes the refusal; unless the framing is sound, the connection ends.
func (v *violation) answer(ctx *fasthttp.RequestCtx) {
	if v.param != "" {
		Problem(ctx, v.status, v.code, v.detail, v.remediation, ParamError{Param: v.param, Reason: v.detail})
	} else {
		Problem(ctx, v.status, v.code, v.detail, v.remediation)
	}
	if v.status == fasthttp.StatusMethodNotAllowed {
		ctx.Response.Header.Set(fasthttp.HeaderAllow, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	}
	if !v.keep {
		hangUp(ctx)
	}
}

func bad(code, detail, remediation string) *violation {
	return &violation{status: fasthttp.StatusBadRequest, code: code, detail: detail, remediation: remediation}
}

// The violations. Everything that the gate refuses is in this table.
var (
	vVersion = &violation{
		status: fasthttp.StatusHTTPVersionNotSupported, code: "http_version",
		detail: "the protocol version is not HTTP/1.0 or HTTP/1.1", remediation: "use HTTP/1.1",
	}
	vMethod = &violation{
		status: fasthttp.StatusMethodNotAllowed, code: "method_not_allowed",
		detail: "this method is not served", remediation: "use a method of the Allow header",
	}
	vUnknownMethod = &violation{
		status: fasthttp.StatusNotImplemented, code: "method_unknown",
		detail: "the method is not known", remediation: "use GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS",
	}
	vCoding = &violation{
		status: fasthttp.StatusNotImplemented, code: "transfer_coding_unknown",
		detail: "the transfer coding is not known", remediation: "send a Content-Length, or Transfer-Encoding: chunked",
	}
	vURILong = &violation{
		status: fasthttp.StatusRequestURITooLong, code: "uri_too_long",
		detail: "the request target is too long", remediation: "shorten it to 2 KiB",
	}
	vHeaderLong = &violation{
		status: fasthttp.StatusRequestHeaderFieldsTooLarge, code: "header_too_large",
		detail: "the header is too large", remediation: "send at most 8 KiB in at most 64 fields",
	}
	vBodyLong = &violation{
		status: fasthttp.StatusRequestEntityTooLarge, code: "body_too_large",
		detail: "the body is too large", remediation: "send at most 64 KiB",
	}
	vExpect = &violation{
		status: fasthttp.StatusExpectationFailed, code: "expectation_failed",
		detail: "the expectation is not supported", remediation: "leave Expect out, or send 100-continue with a body",
	}
	vTimeout = &violation{
		status: fasthttp.StatusRequestTimeout, code: "request_timeout",
		detail: "the request did not arrive in time", remediation: "send the whole request at once",
	}
	vMalformed  = bad("malformed_request", "the request cannot be parsed", "send a well-formed HTTP/1.1 request")
	vTarget     = bad("bad_target", "the request target is not a path", "send the origin form: a path such as /api/v1/tokens, without scheme and host")
	vQuery      = bad("bad_target", "the query holds a byte that is never valid there", "escape what is not printable ASCII, and leave the fragment out")
	vPath       = bad("bad_path", "the path holds a byte or segment that is never valid here", "send letters, digits, '-', '.', '_' and '~' between single slashes")
	vHost       = bad("bad_host", "the Host header is missing, repeated or malformed", "send one Host header: name or address, and optionally a port")
	vHeader     = bad("bad_header", "a header field is malformed", "send field names of letters, digits and '-', one line each")
	vFraming    = bad("ambiguous_framing", "Content-Length and Transfer-Encoding contradict each other", "send one of them, once")
	vBody       = bad("unexpected_body", "this method takes no body", "send the request without a body")
	vCredential = bad("ambiguous_credentials", "a credential header is repeated", "send each credential header once")
	vKeyInURL   = &violation{
		status: fasthttp.StatusBadRequest, code: "key_in_url", keep: true,
		detail:      "an API key must not be in a URL: it ends in logs and histories",
		remediation: "send it in the X-API-Key header, and rotate the key that was in the URL",
	}
)

// check returns the first rule that the request breaks, or nil, and notes whether
// the client wants the connection to end. It allocates nothing.
func (s *Server) check(ctx *fasthttp.RequestCtx) *violation {
	if c, ok := ctx.Conn().(*conn); ok && c.bareLF {
		return vMalformed
	}
	seen, v := s.checkHead(&ctx.Request.Header)
	if st := stateOf(ctx); st != nil {
		st.close = seen.close
	}
	return v
}

// checkHead judges what was sent and not what fasthttp made of it: it says the
// same again after headReceived.
func (s *Server) checkHead(h *fasthttp.RequestHeader) (seen fields, v *violation) {
	if p := h.Protocol(); string(p) != "HTTP/1.1" && string(p) != "HTTP/1.0" {
		return seen, vVersion
	}
	if v := checkMethod(h.Method()); v != nil {
		return seen, v
	}
	target := h.RequestURI()
	if len(target) > s.cfg.MaxURI {
		return seen, vURILong
	}
	raw := h.RawHeaders()
	if len(raw) > s.cfg.MaxHeader {
		return seen, vHeaderLong
	}
	if seen, v = scanFields(raw, s.cfg.MaxFields); v != nil {
		return seen, v
	}
	if v := seen.check(h.Method()); v != nil {
		return seen, v
	}
	if v := checkHost(h); v != nil {
		return seen, v
	}
	return seen, checkTarget(target, h.Method())
}

// headReceived lets fasthttp wait for no body of a request that is refused for its
// head. The connection ends with that answer: what follows is nobody's request.
func (s *Server) headReceived(h *fasthttp.RequestHeader) (same fasthttp.RequestConfig) {
	const none = -2 // neither Content-Length nor chunks
	if h.ContentLength() == none {
		return same
	}
	if _, v := s.checkHead(h); v != nil && !v.keep {
		h.SetContentLength(0)
	}
	return same
}

func checkMethod(m []byte) *violation {
	switch string(m) {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return nil
	case "TRACE", "CONNECT":
		return vMethod
	}
	return vUnknownMethod
}

// fields counts the header fields whose number matters.
type fields struct {
	length, encoding, host, key, authorization, expect uint8
	badExpect                                          bool
	body                                               bool // some Content-Length is not 0
	close                                              bool // the client wants the connection to end with the answer
}

// scanFields walks the header block as it was sent. Names are letters, digits
// and '-' only: an underscore is how proxies are fooled.
func scanFields(raw []byte, limit int) (seen fields, v *violation) {
	for n := 0; len(raw) > 0; n++ {
		end := bytes.IndexByte(raw, '\n')
		if end < 1 || raw[end-1] != '\r' {
			return seen, vMalformed
		}
		line := raw[:end-1]
		raw = raw[end+1:]
		if len(line) == 0 {
			break
		}
		if n == limit {
			return seen, vHeaderLong
		}
		colon := bytes.IndexByte(line, ':')
		if colon < 1 || !validName(line[:colon]) {
			return seen, vHeader
		}
		seen.count(line[:colon], line[colon+1:])
	}
	return seen, nil
}

func validName(name []byte) bool {
	for _, c := range name {
		if !isAlnum(c) && c != '-' {
			return false
		}
	}
	return true
}

func (f *fields) count(name, value []byte) {
	switch len(name) {
	case 4:
		add(&f.host, name, "host")
	case 6:
		if add(&f.expect, name, "expect") && !equalFold(bytes.TrimSpace(value), "100-continue") {
			f.badExpect = true
		}
	case 9:
		add(&f.key, name, "x-api-key")
	case 10:
		f.close = f.close || equalFold(name, "connection") && hasClose(value)
	case 13:
		add(&f.authorization, name, "authorization")
	case 14:
		if add(&f.length, name, "content-length") && bytes.ContainsAny(value, "123456789") {
			f.body = true
		}
	case 17:
		add(&f.encoding, name, "transfer-encoding")
	}
}

// hasClose reports whether a Connection field lists close, in any case and at any
// place: fasthttp knows only a last field that is nothing but "close".
func hasClose(value []byte) bool {
	for item := range bytes.SplitSeq(value, []byte{','}) {
		if equalFold(bytes.Trim(item, " \t"), "close") {
			return true
		}
	}
	return false
}

func add(n *uint8, name []byte, want string) bool {
	if !equalFold(name, want) {
		return false
	}
	if *n < 2 {
		*n++
	}
	return true
}

// equalFold compares ASCII case-insensitively; lower must be lower case.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func (f *fields) check(method []byte) *violation {
	switch {
	case f.length+f.encoding > 1:
		return vFraming
	case f.host > 1:
		return vHost
	case f.key > 1 || f.authorization > 1:
		return vCredential
	case f.expect > 1 || f.badExpect:
		return vExpect
	case (f.encoding > 0 || f.body) && bodyless(method):
		return vBody
	}
	return nil
}

func bodyless(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "DELETE", "OPTIONS":
		return true
	}
	return false
}

// expect answers Expect: 100-continue before the body is read: a request that
// would be refused anyway is refused now and its connection ends.
func (s *Server) expect(ctx *fasthttp.RequestCtx) int {
	v := s.check(ctx)
	if v == nil && bodyless(ctx.Method()) {
		v = vExpect
	}
	if v == nil && ctx.Request.Header.ContentLength() > s.cfg.MaxBody {
		v = vBodyLong
	}
	if v == nil {
		return fasthttp.StatusContinue
	}
	s.answerEarly(ctx, v)
	return v.status
}
