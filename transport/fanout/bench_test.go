package fanout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

// sink is a link that copies what it is given once, as a socket would.
type sink struct {
	*client
	buf   []byte
	bytes int
}

func (k *sink) TryWrite(batch []Chunk) bool {
	for _, f := range batch {
		k.buf = append(k.buf[:0], f.Bytes...)
		k.bytes += len(f.Bytes)
	}
	return false
}

// BenchmarkSelective fans ticks of 5,000 tokens out to connections with 20
// tokens each; the floor copies the same bytes.
func BenchmarkSelective(b *testing.B) {
	benchRounds(b, func(i int) string {
		ids := make([]string, 20)
		for j := range ids {
			ids[j] = fmt.Sprint(1 + (i*37+j*241)%5000)
		}
		return `{"op":"subscribe","digits":"compact","tokens":[` + strings.Join(ids, ",") + `]}`
	})
}

// BenchmarkBroadcast fans them out whole.
func BenchmarkBroadcast(b *testing.B) {
	benchRounds(b, func(int) string { return `{"op":"subscribe","digits":"compact","all":true}` })
}

func benchRounds(b *testing.B, subscribe func(i int) string) {
	const conns = 2000
	m := wiretest.NewMarket(1, 5000)
	m.Churn, m.Moving = 0, 0.7
	h := New(Config{}, board{m})
	links := make([]*sink, conns)
	for i := range links {
		lease, err := h.Admit(loopback)
		if err != nil {
			b.Fatal(err)
		}
		links[i] = &sink{client: new(client)}
		links[i].s = h.Attach(links[i], Peer{Framing: lines{}, Lease: lease})
		links[i].s.Receive([]byte(subscribe(i)))
		links[i].bytes = 0
	}
	b.ReportAllocs()
	spent, rounds := time.Duration(0), 0
	for b.Loop() {
		h.Publish(m.Tick())
		begin := time.Now()
		h.step(begin)
		spent += time.Since(begin)
		rounds++
	}
	size := 0
	for _, k := range links {
		size += k.bytes
		k.s.Detach()
	}
	per := size / rounds / conns
	from, to := make([]byte, per), make([]byte, 0, per)
	begin := time.Now()
	for range rounds * conns {
		to = append(to[:0], from...)
	}
	floor := time.Since(begin)
	b.ReportMetric(float64(spent.Nanoseconds())/float64(rounds*conns), "ns/delivery")
	b.ReportMetric(float64(per), "B/delivery")
	b.ReportMetric(float64(spent)/float64(floor), "xfloor")
}
