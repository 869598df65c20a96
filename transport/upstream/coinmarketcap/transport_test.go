package coinmarketcap

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/velocimeter/velocimeter/engine/source"
)

func TestGuard(t *testing.T) {
	f := func(address string, public, ok bool) {
		t.Helper()
		if err := guard(address, public); (err == nil) != ok {
			t.Errorf("guard(%q, %v) = %v, want ok %v", address, public, err, ok)
		}
	}
	f("104.18.1.1:443", true, true)
	f("[2606:4700::1]:443", true, true)
	f("127.0.0.1:443", true, false)
	f("[::1]:443", true, false)
	f("10.0.0.1:443", true, false)
	f("192.168.1.1:443", true, false)
	f("[fd00::1]:443", true, false)
	f("[::ffff:10.0.0.1]:443", true, false)
	f("169.254.169.254:80", true, false)
	f("169.254.169.254:80", false, false)
	f("[::ffff:169.254.169.254]:80", false, false)
	f("[fe80::1]:80", false, false)
	f("0.0.0.0:80", false, false)
	f("224.0.0.1:80", false, false)
	f("255.255.255.255:80", false, false)
	f("nonsense", false, false)
	f("127.0.0.1:80", false, true)
	f("10.0.0.1:80", false, true)
}

// certificate returns a self-signed one, and a pool that trusts it.
func certificate(t *testing.T, host string, until time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTLS(t *testing.T) {
	const empty = `{"status":{"error_code":0},"data":[]}`
	f := func(name, host string, valid time.Duration, trusted bool, maxVersion uint16, want string) {
		t.Helper()
		cert, pool := certificate(t, host, time.Now().Add(valid))
		// Real connections: both ends of a handshake may write at once, which pipes cannot.
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: maxVersion})
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(empty))
		})}
		var wg sync.WaitGroup
		wg.Go(func() { _ = server.Serve(l) })
		if !trusted {
			pool = x509.NewCertPool()
		}
		dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, l.Addr().String())
		}
		c, err := New(Config{BaseURL: "https://provider.test", Dial: dial, TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS10}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Fetch(t.Context())
		if got := describe(err); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		_ = c.Close()
		_ = server.Close()
		wg.Wait()
	}
	f("good", "provider.test", time.Hour, true, tls.VersionTLS13, "")
	f("unknown authority", "provider.test", time.Hour, false, tls.VersionTLS13, "network: certificate not accepted")
	f("expired", "provider.test", -time.Hour, true, tls.VersionTLS13, "network: certificate not accepted")
	f("wrong host", "other.test", time.Hour, true, tls.VersionTLS13, "network: certificate not accepted")
	f("too old", "provider.test", time.Hour, true, tls.VersionTLS11, "network: the TLS handshake failed")
}

func describe(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestTLSDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		go func() {
			var buf [4096]byte
			for {
				if _, err := server.Read(buf[:]); err != nil {
					return
				}
			}
		}()
		c, err := New(Config{BaseURL: "https://provider.test", Dial: func(context.Context, string, string) (net.Conn, error) { return client, nil }})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = c.Fetch(t.Context())
		if got, took := describe(err), time.Since(began); got != "timeout: the TLS handshake took too long" || took != 5*time.Second {
			t.Errorf("%q after %v", got, took)
		}
		_ = c.Close()
		_ = server.Close()
	})
}

func TestNetworkReasons(t *testing.T) {
	f := func(failure error, kind source.Kind, want string) {
		t.Helper()
		c, err := New(Config{BaseURL: "http://provider.test", Dial: func(context.Context, string, string) (net.Conn, error) { return nil, failure }})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Fetch(t.Context())
		var e *source.Error
		if !errors.As(err, &e) || e.Kind != kind || e.Detail != want {
			t.Errorf("%v gave %v, want %v: %s", failure, err, kind, want)
		}
	}
	f(&net.DNSError{Err: "no such host", IsNotFound: true}, source.KindNetwork, "name lookup failed")
	f(&net.DNSError{Err: "slow", IsTimeout: true}, source.KindTimeout, "the connection took too long")
	f(&net.OpError{Op: "dial", Err: errAddress}, source.KindNetwork, "address is not a provider's")
	f(errors.New("who knows"), source.KindNetwork, "broken connection")
	c, err := New(Config{BaseURL: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = c.Fetch(t.Context()); describe(err) != "network: connection refused" {
		t.Errorf("a closed port gave %v", err)
	}
}
