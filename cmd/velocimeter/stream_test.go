package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/client"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// follower is a Go client of a server under test.
type follower struct {
	*client.Client
	t   *testing.T
	sub *client.Sub
}

func subscribeTo(t *testing.T, s *server, e wire.Encoding, sub client.Subscription) *follower {
	t.Helper()
	o := client.Options{URL: "ws" + strings.TrimPrefix(s.url, "http") + "/api/v1/stream", Encoding: e, Compression: e == wire.EncodingJSON}
	if t, ok := s.client.Transport.(*http.Transport); ok {
		o.TLS = t.TLSClientConfig
	}
	c, err := client.Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{Client: c, t: t}
	t.Cleanup(c.Close)
	if f.sub, err = c.Subscribe(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	return f
}

// until reads events until one is as awaited.
func (f *follower) until(ok func(*client.Event) bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	for {
		ev, err := f.Next(ctx)
		if err != nil {
			f.t.Fatal(err)
		}
		if ok(&ev) {
			return
		}
	}
}

// verified lets the server compare every row.
func (f *follower) verified(ids []market.ID) {
	f.t.Helper()
	if err := f.Verify(f.t.Context(), f.sub, ids, false); err != nil {
		f.t.Fatal(err)
	}
	f.until(func(ev *client.Event) bool {
		if ev.Kind != client.KindChecksums {
			return false
		}
		if c := ev.Check; !c.Compared || len(c.Differ) > 0 || c.Tokens != len(ids) {
			f.t.Fatalf("got %+v", ev.Check)
		}
		return true
	})
}

// sameAsREST waits for an answer of the position that the client has and
// compares what both show.
func (f *follower) sameAsREST(s *server) {
	f.t.Helper()
	compared := false
	f.until(func(ev *client.Event) bool {
		c := f.sub.Channel()
		if ev.Kind != client.KindDelta || ev.Data.More || c == nil || !c.Complete() {
			return false
		}
		var answer struct {
			Data []map[string]json.RawMessage
			Meta struct{ Seq uint64 }
		}
		_, body := s.get("/api/v1/tokens?limit=1000&fields=price,market_cap,volume_24h,rank")
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			f.t.Fatal(err)
		}
		if answer.Meta.Seq != c.Position() {
			return false
		}
		for _, token := range answer.Data {
			var id market.ID
			if err := json.Unmarshal(token["id"], &id); err != nil {
				f.t.Fatal(err)
			}
			row, ok := c.Row(id)
			for _, field := range []market.Field{market.FieldPrice, market.FieldMarketCap, market.FieldVolume24h, market.FieldRank} {
				if got, want := row.Value(field).String(), string(token[field.String()]); !ok || got != want {
					f.t.Fatalf("token %d, %s: the stream has %s, REST %s", id, field, got, want)
				}
			}
		}
		compared = len(answer.Data) == c.Len()
		return compared
	})
}

// TestStream follows a server in both encodings, holds the rows to REST and to
// the server's checksums, and goes on where it was after a restart.
func TestStream(t *testing.T) {
	f := func(e wire.Encoding, sub client.Subscription, args ...string) {
		t.Helper()
		data := t.TempDir()
		args = append([]string{"--market-tokens", "40", "--market-tick", "50ms"}, args...)
		s := startServer(t, data, args...)
		first := subscribeTo(t, s, e, sub)
		first.sameAsREST(s)
		var ids []market.ID
		for row := range first.sub.Channel().Rows() {
			ids = append(ids, row.ID())
		}
		first.verified(ids)
		onLoops(t)
		sub.From = first.sub.Channel()
		at := sub.From.Position()
		first.Close()
		s.stop()

		s = startServer(t, data, args...)
		second := subscribeTo(t, s, e, sub)
		if a := second.sub.Ack(); !a.Recovered {
			t.Fatalf("since %d: got %+v", at, a)
		}
		second.sameAsREST(s)
		second.verified(ids)
		second.Close()
		s.stop()
	}
	f(wire.EncodingBinary, client.Subscription{All: true})
	f(wire.EncodingJSON, client.Subscription{All: true, Shape: "array"})
	cert, key := certificate(t)
	f(wire.EncodingBinary, client.Subscription{All: true, View: "full"}, "--tls-cert", cert, "--tls-key", key)
}

// onLoops fails where goroutines serve a connection that a loop could, encrypted
// or not.
func onLoops(t *testing.T) {
	t.Helper()
	var stacks strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&stacks, 1); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "linux" && strings.Contains(stacks.String(), "loop.(*stream)") {
		t.Error("goroutines serve the connection")
	}
}

// certificate writes a certificate for loopback and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", pkcs)
}

// trust makes the HTTP client of a server under test take its certificate.
func trust(cert string) (*tls.Config, error) {
	text, err := os.ReadFile(cert)
	if err != nil {
		return nil, fmt.Errorf("cannot read the certificate: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}
