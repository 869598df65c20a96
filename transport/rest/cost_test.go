package rest

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

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
	for {
		line, err := c.read.ReadSlice('\n')
		if err != nil {
			b.Fatal(err)
		}
		if len(line) == 2 {
			break
		}
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
	const round = 200
	request := "GET /api/v1/tokens?limit=100 HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: bench\r\nAccept: */*\r\nAccept-Encoding: " + coding + "\r\n\r\n"
	board := big(5000)
	w := &world{t: b}
	w.board.Store(board)
	api := New(Config{Boards: w, History: w})
	server, err := gate.New(gate.Config{}, api.Routes()...)
	if err != nil {
		b.Fatal(err)
	}
	ours := dial(b, server.Serve, request)
	header, length := ours.learn(b)
	body := fill(length)
	floor := dial(b, constant(header, body).Serve, request)
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
		spent += ours.round(b, round, length)
		spentFloor += floor.round(b, round, length)
		rounds += round
	}
	b.ReportMetric(float64(spent.Nanoseconds())/float64(rounds), "cpu-ns/req")
	b.ReportMetric(float64(spentFloor.Nanoseconds())/float64(rounds), "floor-ns/req")
	b.ReportMetric(float64(spent)/float64(spentFloor), "xfloor")
	b.ReportMetric(float64(length), "body-B")
}

// round asks n times and returns the CPU time of the whole process for it.
func (c *rawClient) round(b *testing.B, n, length int) time.Duration {
	start := cpuTime()
	for range n {
		c.ask(b)
		if _, err := c.read.Discard(length); err != nil {
			b.Fatal(err)
		}
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
