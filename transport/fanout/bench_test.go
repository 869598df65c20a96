package fanout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/transport/wire"
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
	f := func(name string, e wire.Encoding, options string) {
		b.Run(name, func(b *testing.B) {
			benchRounds(b, e, func(i int) string {
				ids := make([]string, 20)
				for j := range ids {
					ids[j] = fmt.Sprint(1 + (i*37+j*241)%5000)
				}
				return `{"op":"subscribe","digits":"compact"` + options + `,"tokens":[` + strings.Join(ids, ",") + `]}`
			})
		})
	}
	f("json", wire.EncodingJSON, ``)
	f("array", wire.EncodingJSON, `,"shape":"array"`)
	f("binary", wire.EncodingBinary, ``)
}

// BenchmarkBroadcast fans them out whole.
func BenchmarkBroadcast(b *testing.B) {
	f := func(name string, e wire.Encoding) {
		b.Run(name, func(b *testing.B) {
			benchRounds(b, e, func(int) string { return `{"op":"subscribe","digits":"compact","all":true}` })
		})
	}
	f("json", wire.EncodingJSON)
	f("binary", wire.EncodingBinary)
}

func benchRounds(b *testing.B, e wire.Encoding, subscribe func(i int) string) {
	const conns = 5000
	m := wiretest.NewCalmMarket(1, 5000)
	m.Churn, m.Moving = 0, 0.7
	h := New(Config{Lanes: 1}, board{m})
	links := make([]*sink, conns)
	for i := range links {
		lease, err := h.Admit(visitor)
		if err != nil {
			b.Fatal(err)
		}
		links[i] = &sink{client: new(client)}
		links[i].s = h.Attach(links[i], Peer{Framing: lines{}, Encoding: e, Lease: lease})
		links[i].s.Receive([]byte(subscribe(i)))
	}
	for range 3 {
		h.Publish(m.Tick())
		h.step(time.Now())
	}
	for _, k := range links {
		k.bytes = 0
	}
	b.ReportAllocs()
	spent, rounds := time.Duration(0), 0
	for b.Loop() {
		b.StopTimer()
		h.Publish(m.Tick())
		clear(m.Boards) // nobody compares
		b.StartTimer()
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
