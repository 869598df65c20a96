package gate

import (
	"crypto/tls"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// crowd is a listener on which clients wait all the time.
type crowd struct{ net.Listener }

func (crowd) Accept() (net.Conn, error) {
	a, b := net.Pipe()
	_ = b.Close()
	return a, nil
}

// TestHandshakesTakeTurns accepts no more encrypted connections in a second than
// may begin; plain ones cost nothing and do not wait.
func TestHandshakesTakeTurns(t *testing.T) {
	f := func(conf *tls.Config, n int, want time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			cfg := Config{TLS: conf, Handshakes: 1000}
			cfg.setDefaults()
			l := newListener(crowd{}, cfg, newMeters(cfg.Metrics, cfg.Name))
			began := time.Now()
			for range n {
				nc, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				_ = nc.Close()
			}
			if took := time.Since(began); took != want {
				t.Errorf("TLS %v: %d accepted in %v, not %v", conf != nil, n, took, want)
			}
		})
	}
	f(nil, 5000, 0)
	f(&tls.Config{}, 250, 0)
	f(&tls.Config{}, 1250, time.Second)
}

// TestCloseEndsATurn does not keep a stop waiting for whoever is next.
func TestCloseEndsATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{TLS: &tls.Config{}, Handshakes: 1}
		cfg.setDefaults()
		l := newListener(crowd{}, cfg, newMeters(cfg.Metrics, cfg.Name))
		failed := make(chan error)
		go func() {
			_, err := l.Accept()
			failed <- err
		}()
		synctest.Wait()
		close(l.done)
		if err := <-failed; err != net.ErrClosed || l.open.Load() != 0 {
			t.Errorf("got %v, %d open", err, l.open.Load())
		}
	})
}
