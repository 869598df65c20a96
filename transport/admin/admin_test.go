package admin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp/fasthttputil"
	"go.uber.org/goleak"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/gate"
	"github.com/velocimeter/velocimeter/transport/rest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

type nothing struct{}

func (nothing) Board() *market.Board { return nil }

func (nothing) Gates() []rest.Gate { return []rest.Gate{{Name: "store", Detail: "opening"}} }

func TestRoutes(t *testing.T) {
	metrics := prometheus.NewRegistry()
	found := func() ([]byte, error) { return []byte(`{"mended":null}`), nil }
	s, err := gate.New(gate.Config{Name: "admin", Metrics: metrics}, Routes(Config{Metrics: metrics, Boards: nothing{}, Ready: nothing{}, Recovery: found})...)
	if err != nil {
		t.Fatal(err)
	}
	ln := fasthttputil.NewInmemoryListener()
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	client := http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return ln.Dial() },
	}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(s.Shutdown(ctx), <-done); err != nil {
			t.Error(err)
		}
	})
	f := func(path string, status int, want string) {
		t.Helper()
		resp, err := client.Get("http://localhost" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != status || !strings.Contains(string(body), want) {
			t.Errorf("%s: got %d %.300s %v", path, resp.StatusCode, body, err)
		}
		if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", path, resp.Header)
		}
	}
	f("/healthz", 200, `"ok"`)
	f("/readyz", 503, `"detail":"opening"`)
	f("/recovery", 200, `"mended":null`)
	f("/version", 200, `"velocimeter"`)
	f("/metrics", 200, `velocimeter_rest_requests_total{listener="admin",route="/healthz",status="200"} 1`)
	f("/debug/pprof/", 200, "heap")
	f("/debug/pprof/goroutine?debug=1", 200, "goroutine profile")
	f("/debug/pprof/heap", 200, "")
	f("/debug/pprof/cmdline", 404, "not_found")
	f("/debug/pprof/nothing", 404, "not_found")
	f("/api/v1/tokens", 404, "not_found")
}
