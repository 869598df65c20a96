package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1" // RFC 6455 prescribes it; nothing is kept secret by it
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/velocimeter/velocimeter/transport/wire"
)

const (
	maxResponseHead  = 64 << 10
	maxResponseText  = 512 // bytes of a refusal that are kept for the error
	handshakeTimeout = 10 * time.Second
	acceptMagic      = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	deflateOffer     = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
)

// dial opens a connection and upgrades it.
func dial(ctx context.Context, o *Options) (*conn, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, fmt.Errorf("cannot parse address %q: %w", o.URL, err)
	}
	port := map[string]string{"ws": "80", "wss": "443"}[u.Scheme]
	if port == "" || u.Hostname() == "" {
		return nil, fmt.Errorf("cannot dial %q: not an address of ws or wss", o.URL)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	nc, err := o.Dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("cannot dial %q: %w", o.URL, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	c, err := upgrade(ctx, nc, u, o)
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("cannot connect to %q: %w", o.URL, err)
	}
	return c, nil
}

// upgrade does both handshakes on a fresh connection.
func upgrade(ctx context.Context, nc net.Conn, u *url.URL, o *Options) (*conn, error) {
	if u.Scheme == "wss" {
		cfg := &tls.Config{MinVersion: tls.VersionTLS12}
		if o.TLS != nil {
			cfg = o.TLS.Clone()
		}
		if cfg.ServerName == "" {
			cfg.ServerName = u.Hostname()
		}
		secure := tls.Client(nc, cfg)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		nc = secure
	}
	var raw [16]byte
	_, _ = rand.Read(raw[:])
	key := base64.StdEncoding.EncodeToString(raw[:])
	if _, err := nc.Write(requestHead(u, key, o)); err != nil {
		return nil, err
	}
	lim := &io.LimitedReader{R: nc, N: maxResponseHead}
	br := bufio.NewReaderSize(lim, readBuffer)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // it reads nc no further
	deflate, err := accepted(resp, key, o)
	if err != nil {
		return nil, err
	}
	lim.N = math.MaxInt64
	return newConn(nc, br, o.Limits.Message, deflate), nil
}

func requestHead(u *url.URL, key string, o *Options) []byte {
	h := http.Header{}
	for name, values := range o.Header {
		h[http.CanonicalHeaderKey(name)] = values
	}
	host := u.Host
	if v := h.Get("Host"); v != "" {
		host = v
	}
	h.Del("Host")
	h.Set("Upgrade", "websocket")
	h.Set("Connection", "Upgrade")
	h.Set("Sec-WebSocket-Key", key)
	h.Set("Sec-WebSocket-Version", "13")
	h.Set("Sec-WebSocket-Protocol", Subprotocol(o.Encoding))
	if o.Compression && o.Encoding == wire.EncodingJSON {
		h.Set("Sec-WebSocket-Extensions", deflateOffer)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\n", u.RequestURI(), host)
	_ = h.Write(&b) // a buffer takes everything
	b.WriteString("\r\n")
	return b.Bytes()
}

// accepted checks the answer to the upgrade, and whether messages may be deflated.
func accepted(resp *http.Response, key string, o *Options) (deflate bool, err error) {
	refuse := func(format string, args ...any) (bool, error) {
		return false, &HandshakeError{Status: resp.StatusCode, Text: fmt.Sprintf(format, args...)}
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxResponseText))
		retry, _ := strconv.ParseInt(resp.Header.Get("Retry-After"), 10, 32)
		return false, &HandshakeError{resp.StatusCode, millis(retry * 1000), strings.TrimSpace(string(text))}
	}
	sum := sha1.Sum([]byte(key + acceptMagic))
	switch {
	case !strings.EqualFold(resp.Header.Get("Upgrade"), "websocket"), !strings.Contains(strings.ToLower(resp.Header.Get("Connection")), "upgrade"):
		return refuse("not an upgrade to websocket")
	case resp.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]):
		return refuse("the answer is not to this handshake")
	case resp.Header.Get("Sec-WebSocket-Protocol") != Subprotocol(o.Encoding):
		return refuse("sub-protocol %q", resp.Header.Get("Sec-WebSocket-Protocol"))
	}
	switch ext := resp.Header.Get("Sec-WebSocket-Extensions"); {
	case ext == "":
		return false, nil
	case !o.Compression, !strings.HasPrefix(ext, "permessage-deflate"), !strings.Contains(ext, "server_no_context_takeover"), strings.Contains(ext, ","):
		return refuse("extensions %q were not offered", ext)
	}
	return true, nil
}
