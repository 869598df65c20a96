package coinmarketcap_test

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/upstream/coinmarketcap"
	"github.com/velocimeter/velocimeter/transport/upstream/upstreamtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const canary = "canary-0123-4567-89ab-cdef00zzyx"

func key(t testing.TB, text string) coinmarketcap.Key {
	t.Helper()
	k, err := coinmarketcap.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestConformance(t *testing.T) {
	// The environment is never asked for a proxy.
	t.Setenv("HTTP_PROXY", "http://proxy.test:3128")
	rows := ""
	for i := range 30 {
		if i > 0 {
			rows += ","
		}
		rows += row(i+1, `"price":1.5,"market_cap":2,"volume_24h":3`)
	}
	upstreamtest.Run(t, upstreamtest.Subject{
		New: func(dial func(context.Context, string, string) (net.Conn, error)) (upstreamtest.Fetcher, error) {
			return coinmarketcap.New(coinmarketcap.Config{
				BaseURL: "http://provider.test", Keys: []coinmarketcap.Key{key(t, canary)}, Dial: dial,
				Now: func() market.Time { return received },
			})
		},
		Good: []byte(envelope("[" + rows + "]")), Tokens: 30, Secret: canary, Deadline: 16 * time.Second,
	})
}
