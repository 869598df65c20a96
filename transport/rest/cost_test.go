package rest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/textproto"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/gate"
)

// rawClient sends the same bytes again and again over one connection, with as
// little work of its own as possible.
type rawClient struct {
	conn    net.Conn
	request []byte
	read    *bufio.Reader
	skip    int // bytes of one answer, the header included
}

// dial starts a server on loopback and asks once to learn the answer's length.
func dial(b *testing.B, serve func(net.Listener) error, request string) *rawClient {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = serve(ln) }()
	b.Cleanup(func() { _ = ln.Close() })
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	c := &rawClient{conn: conn, request: []byte(request), read: bufio.NewReaderSize(conn, 256<<10)}
	return c
}

func (c *rawClient) learn(b *testing.B) (header textproto.MIMEHeader, length int) {
	b.Helper()
	if _, err := c.conn.Write(c.request); err != nil {
		b.Fatal(err)
	}
	tp := textproto.NewReader(c.read)
	status, err := tp.ReadLine()
	if err != nil || status != "HTTP/1.1 200 OK" {
		b.Fatalf("got %q %v", status, err)
	}
	header, err = tp.ReadMIMEHeader()
	if err != nil {
		b.Fatal(err)
	}
	length, err = strconv.Atoi(header.Get("Content-Length"))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, c.read, int64(length)); err != nil {
		b.Fatal(err)
	}
	c.skip = length + len(status) + 4
	for name, values := range header {
		for _, v := range values {
			c.skip += len(name) + len(v) + 4
		}
	}
	return header, length
}

func (c *rawClient) ask(b *testing.B) {
	if _, err := c.conn.Write(c.request); err != nil {
		b.Fatal(err)
	}
	// The request id and Age may change their length: read the header, skip the body.
	length := 0
	for {
		line, err := c.read.ReadSlice('\n')
		if err != nil {
			b.Fatal(err)
		}
		if len(line) == 2 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			for _, d := range bytes.TrimSpace(value) {
				length = 10*length + int(d-'0')
			}
		}
	}
	if _, err := c.read.Discard(length); err != nil {
		b.Fatal(err)
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic("BUG: getrusage: " + err.Error())
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCachedTokens compares the CPU of a cached /tokens?limit=100 (server
// and a minimal client, over loopback, keep-alive) with fasthttp answering a
// constant body of the same length and headers, in alternating rounds.
func BenchmarkCachedTokens(b *testing.B) {
	for _, coding := range []string{"identity", "gzip"} {
		b.Run(coding, func(b *testing.B) { benchmarkCached(b, coding) })
	}
}

func benchmarkCached(b *testing.B, coding string) {
	w := &world{t: b}
	w.board.Store(big(5000))
	w.againstFloor(b, 200, func(int) string { return ask("/tokens?limit=100", coding) })
}

// BenchmarkHistoryAnswer is the same for 7 days of one token at 5 minutes, 2,016
// points: answered from the cache, and computed and encoded for every request.
// Reading them from the store comes on top of the latter: persist, BenchmarkHistory.
func BenchmarkHistoryAnswer(b *testing.B) {
	for _, coding := range []string{"identity", "gzip"} {
		for _, cached := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/cached=%t", coding, cached), func(b *testing.B) { benchmarkHistory(b, coding, cached) })
		}
	}
}

func benchmarkHistory(b *testing.B, coding string, cached bool) {
	w := &world{t: b}
	w.board.Store(big(10))
	from := alignDown(noon, 5*market.Minute)
	page := &market.HistoryPage{DurableSeq: 800, Points: walk(from, 2016)}
	past := pastFunc(func(context.Context, market.HistoryQuery) (*market.HistoryPage, error) { return page, nil })
	w.past.Store(&past)
	w.againstFloor(b, 20, func(n int) string {
		if cached {
			n = 0
		}
		// Each is another question, though all begin with the same point.
		first := from + market.Time(n%int(5*market.Minute))
		return ask(fmt.Sprintf("/tokens/1/history?granularity=5m&limit=10000&from=%d&to=%d", first, from.Add(7*market.Day)), coding)
	})
}

// walk makes points as a market does, with as many digits as the store keeps.
func walk(from market.Time, n int) (points []market.Point) {
	rng := rand.New(rand.NewPCG(1, 2))
	price, volume := int64(64_000_00000), int64(23_456_7)
	number := market.NewDecimal
	for i := range n {
		bar := func(v, spread int64, exp int8) market.Bar {
			d := func() market.Decimal { return number(v+rng.Int64N(spread), exp) }
			return market.Bar{Open: d(), High: d(), Low: d(), Close: d(), Mean: d()}
		}
		price += rng.Int64N(2001) - 1000
		volume += rng.Int64N(21) - 10
		points = append(points, market.Point{
			Time: from.Add(market.Millis(i) * 5 * market.Minute), Seq: uint64(i), Count: 5, VWAP: number(price, -3), Price: bar(price, 900, -3),
			Cap: bar(volume*9, 9, 6), Volume: bar(volume, 9, 5), Velocity: bar(24_000_000+rng.Int64N(90_000), 9000, -9),
		})
	}
	return points
}

func ask(target, coding string) string {
	return "GET /api/v1" + target + " HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: bench\r\nAccept: */*\r\nAccept-Encoding: " + coding + "\r\n\r\n"
}

// againstFloor compares the CPU of rounds of requests, the n-th of which is
// request(n), with that of as many constant answers.
func (w *world) againstFloor(b *testing.B, round int, request func(n int) string) {
	api := New(Config{Boards: w, History: w})
	server, err := gate.New(gate.Config{}, api.Routes()...)
	if err != nil {
		b.Fatal(err)
	}
	ours := dial(b, server.Serve, request(0))
	header, length := ours.learn(b)
	body := fill(length)
	floor := dial(b, constant(header, body).Serve, request(0))
	if _, n := floor.learn(b); n != length {
		b.Fatalf("the floor answers %d bytes, not %d", n, length)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
	})
	var spent, spentFloor time.Duration
	rounds := 0
	for b.Loop() {
		spent += ours.round(b, rounds, round, request)
		spentFloor += floor.round(b, rounds, round, request)
		rounds += round
	}
	b.ReportMetric(float64(spent.Nanoseconds())/float64(rounds), "cpu-ns/req")
	b.ReportMetric(float64(spentFloor.Nanoseconds())/float64(rounds), "floor-ns/req")
	b.ReportMetric(float64(spent)/float64(spentFloor), "xfloor")
	b.ReportMetric(float64(length), "body-B")
}

// round asks n times and returns the CPU time of the whole process for it.
func (c *rawClient) round(b *testing.B, first, n int, request func(n int) string) time.Duration {
	requests := make([][]byte, n)
	for i := range requests {
		requests[i] = []byte(request(first + i))
	}
	start := cpuTime()
	for i := range n {
		c.request = requests[i]
		c.ask(b)
	}
	return cpuTime() - start
}

// constant is fasthttp with nothing of ours.
func constant(header textproto.MIMEHeader, body []byte) *fasthttp.Server {
	type pair struct{ name, value string }
	var pairs []pair
	for name, values := range header {
		if name != "Content-Length" && name != "Date" && name != "Content-Type" && name != "Content-Encoding" {
			pairs = append(pairs, pair{name, values[0]})
		}
	}
	contentType, encoding := header.Get("Content-Type"), header.Get("Content-Encoding")
	return &fasthttp.Server{NoDefaultServerHeader: true, Handler: func(ctx *fasthttp.RequestCtx) {
		ctx.Response.Header.SetContentType(contentType)
		ctx.Response.Header.SetContentEncoding(encoding)
		for i := range pairs {
			ctx.Response.Header.Set(pairs[i].name, pairs[i].value)
		}
		ctx.Response.SetBodyRaw(body)
	}}
}

// BenchmarkEncodeTokens encodes 100 token objects.
func BenchmarkEncodeTokens(b *testing.B) {
	board := big(100)
	var rows []byte
	b.ReportAllocs()
	for b.Loop() {
		rows = rows[:0]
		for s := range board.All {
			rows = AppendToken(rows, s)
		}
	}
	b.SetBytes(int64(len(rows)))
}

// BenchmarkSort sorts 5,000 tokens by one key.
func BenchmarkSort(b *testing.B) {
	board := big(5000)
	b.ReportAllocs()
	for b.Loop() {
		sortBoard(board, sortVelocity, descending)
	}
}
