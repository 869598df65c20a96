package coinmarketcap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// maxHeader bounds an answer's header, in bytes.
const maxHeader = 64 << 10

// errAddress says that the dialer refused an address that no provider has.
var errAddress = errors.New("address is not a provider's")

// newHTTP returns the HTTP client: one connection kept alive, no proxy from the
// environment, no redirect ever followed, no transparent decompression.
func newHTTP(c *Config, base *url.URL) *http.Client {
	t := &http.Transport{
		DialContext:            dialer(c, base),
		TLSClientConfig:        tlsConfig(c),
		TLSHandshakeTimeout:    c.Timeouts.TLS,
		ResponseHeaderTimeout:  c.Timeouts.FirstByte,
		MaxResponseHeaderBytes: maxHeader,
		MaxIdleConns:           2,
		MaxIdleConnsPerHost:    2,
		MaxConnsPerHost:        2,
		IdleConnTimeout:        90 * time.Second,
		DisableCompression:     true,
	}
	if c.Proxy != nil {
		t.Proxy = http.ProxyURL(c.Proxy)
	}
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func tlsConfig(c *Config) *tls.Config {
	if c.TLS == nil {
		return &tls.Config{MinVersion: tls.VersionTLS12}
	}
	conf := c.TLS.Clone()
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
	return conf
}

// dialer returns the dial function with its own deadline. Without a configured
// one it guards every address after the name is resolved: the real API has to
// be on a public address, any other host anywhere but link-local (where clouds
// keep their credentials), multicast and unspecified ones.
func dialer(c *Config, base *url.URL) func(ctx context.Context, network, address string) (net.Conn, error) {
	dial := c.Dial
	if dial == nil {
		d := &net.Dialer{KeepAlive: 30 * time.Second}
		public := base.Hostname() == "pro-api.coinmarketcap.com" && c.Proxy == nil
		d.Control = func(_, address string, _ syscall.RawConn) error { return guard(address, public) }
		dial = d.DialContext
	}
	limit := c.Timeouts.Dial
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return dial(ctx, network, address)
	}
}

// guard refuses addresses that an answer must never come from.
func guard(address string, public bool) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("cannot dial %q: %w", address, errAddress)
	}
	ip := ap.Addr().Unmap()
	refused := !ip.IsGlobalUnicast() && !ip.IsLoopback()
	if public {
		refused = refused || ip.IsPrivate() || ip.IsLoopback()
	}
	if refused {
		return fmt.Errorf("cannot dial %q: %w", address, errAddress)
	}
	return nil
}
