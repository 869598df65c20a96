package coinmarketcap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/source"
)

// keyHeader carries the key; it is never put into the address.
const keyHeader = "X-CMC_PRO_API_KEY"

// maxErrorBody bounds what is read of an answer that is an error, in bytes.
const maxErrorBody = 64 << 10

// errWhole is the cause of a call that took too long as a whole.
var errWhole = errors.New("the answer took too long")

// once makes one call with one key.
func (c *Client) once(ctx context.Context, what call, key Key, read func([]byte) *source.Error) *source.Error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeouts.Whole, errWhole)
	defer cancel()
	address := *c.base
	address.Path += what.path
	address.RawQuery = what.query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), http.NoBody)
	if err != nil {
		return &source.Error{Kind: source.KindBadRequest, Detail: "the request cannot be built"}
	}
	req.Header.Set("Accept", "application/json")
	if !c.cfg.Uncompressed {
		req.Header.Set("Accept-Encoding", "gzip")
	}
	req.Header.Set("User-Agent", "velocimeter")
	if !key.IsZero() {
		req.Header.Set(keyHeader, key.reveal())
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return broken(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	return c.answer(ctx, resp, read)
}

// answer reads a response and hands a good one's body to read.
func (c *Client) answer(ctx context.Context, resp *http.Response, read func([]byte) *source.Error) *source.Error {
	limits := c.cfg.Limits
	if resp.StatusCode != http.StatusOK {
		limits = Limits{Wire: maxErrorBody, Body: maxErrorBody}
	}
	data, err := c.body.read(resp.Body, resp.Header.Get("Content-Encoding"), limits)
	if resp.StatusCode != http.StatusOK {
		return c.refused(resp, data, err)
	}
	switch {
	case errors.Is(err, errTooLarge):
		return &source.Error{Kind: source.KindTooLarge, Status: resp.StatusCode, Detail: err.Error()}
	case errors.Is(err, errEncoding):
		return &source.Error{Kind: source.KindInvalidPayload, Status: resp.StatusCode, Detail: err.Error()}
	case err != nil:
		e := broken(ctx, err)
		e.Status = resp.StatusCode
		return e
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil ||
		kind != "application/json" && !strings.HasSuffix(kind, "+json") {
		return &source.Error{Kind: source.KindInvalidPayload, Status: resp.StatusCode, Detail: "the content type is not JSON"}
	}
	if e := read(data); e != nil {
		e.Status = resp.StatusCode
		return e
	}
	return nil
}

// refused classes an answer whose status is not 200; its body may explain it.
func (c *Client) refused(resp *http.Response, data []byte, failure error) *source.Error {
	e := &source.Error{Kind: source.Classify(resp.StatusCode, 0), Status: resp.StatusCode, Detail: "no explanation in the body"}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		e.Detail = "a redirect, which is not followed"
	}
	if failure == nil {
		p := NewParser()
		if _, a, err := p.Parse(data, nil, 0); err == nil && a.HasStatus && a.Status.Code > 0 {
			e.Kind = source.Classify(resp.StatusCode, a.Status.Code)
			e.Code, e.Detail = a.Status.Code, a.Status.Message
		}
	}
	if e.Kind == source.KindUnknown {
		e.Kind = source.KindInvalidPayload // a status below 300 that is not 200
	}
	e.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), c.cfg.Now())
	return e
}

// retryAfter reads a Retry-After header, seconds or a date; 0 where it is
// missing, past, or makes no sense. The schedule bounds it.
func retryAfter(text string, now market.Time) market.Millis {
	if n, err := strconv.ParseUint(text, 10, 40); err == nil {
		return market.Millis(n) * market.Second
	}
	if t, err := http.ParseTime(text); err == nil {
		return max(market.TimeOf(t).Sub(now), 0)
	}
	return 0
}

// broken classes a failure to get an answer at all. The library's own error
// text is used only where it cannot hold an address.
func broken(ctx context.Context, err error) *source.Error {
	if address, ok := errors.AsType[*url.Error](err); ok {
		err = address.Err
	}
	if reason := reasonOf(err); reason != "" {
		return &source.Error{Kind: source.KindNetwork, Detail: reason}
	}
	var timeout net.Error
	switch {
	case errors.Is(context.Cause(ctx), errWhole):
		return &source.Error{Kind: source.KindTimeout, Detail: errWhole.Error()}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return &source.Error{Kind: source.KindTimeout, Detail: phase(err)}
	case strings.Contains(err.Error(), "malformed"), strings.Contains(err.Error(), "invalid"),
		strings.Contains(err.Error(), "exceeded"):
		return &source.Error{Kind: source.KindInvalidPayload, Detail: "the answer is not HTTP"}
	}
	return &source.Error{Kind: source.KindNetwork, Detail: "broken connection"}
}

// reasonOf names a network failure; "" where it is none of the known ones.
func reasonOf(err error) string {
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &dns) && !dns.IsTimeout:
		return "name lookup failed"
	case errors.Is(err, errAddress):
		return errAddress.Error()
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "network unreachable"
	case errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &cert):
		return "certificate not accepted"
	case errors.As(err, &record):
		return "the server does not speak TLS"
	case errors.As(err, &alert), strings.HasPrefix(err.Error(), "tls: "), strings.HasPrefix(err.Error(), "remote error: tls: "):
		return "the TLS handshake failed"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe), errors.Is(err, net.ErrClosed):
		return "connection closed early"
	}
	return ""
}

// phase tells what ran out of time, from the library's own words.
func phase(err error) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "TLS"):
		return "the TLS handshake took too long"
	case strings.Contains(text, "response headers"):
		return "the first byte took too long"
	}
	return "the connection took too long"
}
