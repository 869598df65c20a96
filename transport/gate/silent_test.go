package gate

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Nobody asked anything on a connection on which nothing was sent: an answer there
// would be taken for that to a request that comes a moment later.
func TestSilentConnectionsGetNoAnswer(t *testing.T) {
	borrowed := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	defer borrowed.Close()
	roots := x509.NewCertPool()
	roots.AddCert(borrowed.Certificate())
	for _, conf := range []*tls.Config{nil, {Certificates: borrowed.TLS.Certificates}} {
		metrics := prometheus.NewRegistry()
		_, addr := start(t, Config{ReadTimeout: 200 * time.Millisecond, TLS: conf, Metrics: metrics}, echoRoutes()...)
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if conf != nil {
			secure := tls.Client(c, &tls.Config{RootCAs: roots, ServerName: "example.com"})
			if err := secure.Handshake(); err != nil {
				t.Fatal(err)
			}
			c = secure
		}
		if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
			t.Errorf("TLS %v: got %q, %v", conf != nil, b, err)
		}
		_ = c.Close()
		if n := counted(t, metrics, "velocimeter_rest_requests_total"); n != 0 {
			t.Errorf("TLS %v: %v requests counted", conf != nil, n)
		}
	}
}
