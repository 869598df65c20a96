package ws

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/flate"
)

// heard is a frame that an endpoint answers with.
type heard struct {
	op   byte
	text string
}

// conformance is what RFC 6455 and RFC 7692 want of an endpoint that echoes: what
// is sent, what comes back, and the code of the close; 0 where none is due.
type conformance struct {
	name  string
	send  []byte
	want  []heard
	close int
}

func texts(s ...string) (out []heard) {
	for _, v := range s {
		out = append(out, heard{opText, v})
	}
	return out
}

func pongs(s ...string) (out []heard) {
	for _, v := range s {
		out = append(out, heard{opPong, v})
	}
	return out
}

func flatten(all ...[]heard) (out []heard) {
	for _, v := range all {
		out = append(out, v...)
	}
	return out
}

// fragments sends a message in frames of n bytes; first has no FIN.
func fragments(first byte, payload string, n int) (out []byte) {
	for len(payload) > n {
		out = append(out, frame(first, payload[:n])...)
		payload, first = payload[n:], 0
	}
	return append(out, frame(first|0x80, payload)...)
}

func conformances() (all []conformance) {
	add := func(name string, send []byte, want []heard, code int) {
		all = append(all, conformance{name, send, want, code})
	}
	for _, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536, 1 << 20} {
		s := strings.Repeat("*", n)
		add(fmt.Sprint("text of ", n), frame(0x81, s), texts(s), 0)
		add(fmt.Sprint("binary of ", n), frame(0x82, s), []heard{{opBinary, s}}, 0)
		if n > 0 {
			add(fmt.Sprint("fragments of ", n), fragments(0x01, s, max(1, n/7)), texts(s), 0)
		}
	}
	for _, n := range []int{0, 1, 125} {
		s := strings.Repeat("p", n)
		add(fmt.Sprint("ping of ", n), frame(0x89, s), pongs(s), 0)
		add(fmt.Sprint("pong of ", n), frame(0x8a, s), nil, 0)
	}
	add("ping of 126", frame(0x89, strings.Repeat("p", 126)), nil, 1002)
	add("pong of 126", frame(0x8a, strings.Repeat("p", 126)), nil, 1002)
	add("close of 126", frame(0x88, "\x03\xe8"+strings.Repeat("p", 124)), nil, 1002)
	add("10 pings", repeat(10, frame(0x89, "x")), pongs(strings.Split(strings.Repeat("x", 10), "")...), 0)
	add("pong, then ping", join(frame(0x8a, "a"), frame(0x89, "b")), pongs("b"), 0)

	for rsv := byte(1); rsv < 8; rsv++ {
		for _, first := range []byte{0x81, 0x82, 0x89, 0x8a, 0x88, 0x80} {
			add(fmt.Sprintf("reserved bits %d on %x", rsv, first), frame(first|rsv<<4, "x"), nil, 1002)
		}
		add(fmt.Sprintf("reserved bits %d after a message", rsv), join(frame(0x81, "a"), frame(0x81|rsv<<4, "b"), frame(0x89, "")), texts("a"), 1002)
	}
	for op := range byte(16) {
		if op >= 3 && op <= 7 || op >= 0xb {
			add(fmt.Sprintf("opcode %x", op), frame(0x80|op, ""), nil, 1002)
			add(fmt.Sprintf("opcode %x after a message", op), join(frame(0x81, "a"), frame(0x80|op, "x"), frame(0x89, "")), texts("a"), 1002)
			add(fmt.Sprintf("opcode %x inside a message", op), join(frame(0x01, "a"), frame(0x80|op, "x"), frame(0x80, "b")), nil, 1002)
		}
	}
	add("fragmented ping", join(frame(0x09, "a"), frame(0x80, "b")), nil, 1002)
	add("fragmented pong", join(frame(0x0a, "a"), frame(0x80, "b")), nil, 1002)
	add("fragmented close", join(frame(0x08, "\x03"), frame(0x80, "\xe8")), nil, 1002)
	add("ping between fragments", join(frame(0x01, "a"), frame(0x89, "p"), frame(0x80, "b")), flatten(pongs("p"), texts("ab")), 0)
	add("pings between fragments", join(frame(0x01, "a"), frame(0x89, "1"), frame(0x00, "b"), frame(0x89, "2"), frame(0x80, "c")), flatten(pongs("1", "2"), texts("abc")), 0)
	add("continuation of nothing", frame(0x80, "a"), nil, 1002)
	add("continuation of nothing, without FIN", join(frame(0x00, "a"), frame(0x80, "b")), nil, 1002)
	add("continuation after a whole message", join(frame(0x81, "a"), frame(0x80, "b")), texts("a"), 1002)
	add("text inside text", join(frame(0x01, "a"), frame(0x81, "b")), nil, 1002)
	add("binary inside text", join(frame(0x01, "a"), frame(0x82, "b")), nil, 1002)
	add("empty fragments", join(frame(0x01, ""), frame(0x00, ""), frame(0x80, "")), texts(""), 0)
	add("empty fragments around text", join(frame(0x01, ""), frame(0x00, "mid"), frame(0x80, "")), texts("mid"), 0)

	const kosme = "κόσμε"
	valid := []string{
		"Hello-µ@ßöäüàá-UTF-8!!", kosme, "\x00", "\x7f", "\u0080", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\ufffd", "\uffff", "\ufffe", "\U00010000", "\U0010ffff", "\U0001fffe", "\U0008ffff",
	}
	for _, s := range valid {
		add(fmt.Sprintf("UTF-8 %q", s), frame(0x81, s), texts(s), 0)
		add(fmt.Sprintf("UTF-8 %q by bytes", s), fragments(0x01, s, 1), texts(s), 0)
	}
	invalid := []string{
		"\x80", "\xbf", "\x80\xbf\x80", "\xc0 ", "\xe0 ", "\xf0 ", "\xfe", "\xff", "\xfe\xfe\xff\xff", "\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf",
		"\xfc\x80\x80\x80\x80\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xc0\x80", "\xed\xa0\x80", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbf\xbf",
		"\xed\xa0\x80\xed\xb0\x80", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", kosme + "\xed\xa0\x80edited", kosme + "\xf4\x90\x80\x80edited", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce", "\xce",
		"\xe1\xbd", "\xf0\x90\x80", "\xc2", "\xe2\x82",
	}
	for _, s := range invalid {
		add(fmt.Sprintf("not UTF-8 %q", s), frame(0x81, s), nil, 1007)
		add(fmt.Sprintf("not UTF-8 %q by bytes", s), fragments(0x01, s, 1), nil, 1007)
		add(fmt.Sprintf("binary %q", s), frame(0x82, s), []heard{{opBinary, s}}, 0)
	}
	// Failing fast: the rest of the message never comes.
	add("not UTF-8 in the first fragment", frame(0x01, kosme+"\xf4\x90\x80\x80"), nil, 1007)
	add("not UTF-8 in half a frame", frame(0x81, kosme+"\xf4\x90\x80\x80"+strings.Repeat("x", 100))[:6+len(kosme)+4], nil, 1007)
	add("not UTF-8 at its second byte", frame(0x01, kosme+"\xf4\x90"), nil, 1007)

	add("close twice", join(closing(1000, ""), closing(1000, "")), nil, 1000)
	add("ping after close", join(closing(1000, ""), frame(0x89, "x")), nil, 1000)
	add("message inside which a close comes", join(frame(0x01, "a"), closing(1000, ""), frame(0x80, "b")), nil, 1000)
	add("256 KiB, then close", join(frame(0x81, strings.Repeat("B", 256<<10)), closing(1000, "")), texts(strings.Repeat("B", 256<<10)), 1000)
	add("close without a code", frame(0x88, ""), nil, 1000)
	add("close with half a code", frame(0x88, "x"), nil, 1002)
	add("close with the longest reason", closing(1000, strings.Repeat("r", 123)), nil, 1000)
	add("close with a reason not UTF-8", closing(1000, "\xce\xba\xed\xa0\x80"), nil, 1007)
	for _, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		add(fmt.Sprint("close ", code), closing(code, ""), nil, int(code))
	}
	for _, code := range []uint16{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		add(fmt.Sprint("close ", code), closing(code, ""), nil, 1002)
	}
	big := strings.Repeat("0123456789abcdef", 1<<16)
	add("4 MiB in fragments of 64 KiB", fragments(0x01, strings.Repeat(big, 4), 64<<10), texts(strings.Repeat(big, 4)), 0)
	add("1 MiB in fragments of 64", fragments(0x02, big, 64), []heard{{opBinary, big}}, 0)
	return all
}

// squeezed deflates a message as RFC 7692 wants it.
func squeezed(text string, level int) string {
	var out bytes.Buffer
	w, _ := flate.NewWriter(&out, level)
	_, _ = io.WriteString(w, text)
	_ = w.Flush()
	return strings.TrimSuffix(out.String(), string(syncMarker))
}

// final deflates with the last block marked, and the zero byte behind it.
func final(text string) string {
	var out bytes.Buffer
	w, _ := flate.NewWriter(&out, 6)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return out.String() + "\x00"
}

func deflated() (all []conformance) {
	add := func(name string, send []byte, want []heard, code int) {
		all = append(all, conformance{name, send, want, code})
	}
	for _, n := range []int{0, 16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072} {
		s := strings.Repeat(`{"id":1,"price":64010.2}`, n)[:n]
		for _, level := range []int{0, 1, 6, 9} {
			z := squeezed(s, level)
			add(fmt.Sprintf("%d bytes at level %d", n, level), frame(0xc1, z), texts(s), 0)
			add(fmt.Sprintf("%d bytes at level %d in fragments", n, level), fragments(0x41, z, max(1, len(z)/5)), texts(s), 0)
		}
		add(fmt.Sprintf("%d bytes, binary", n), frame(0xc2, squeezed(s, 6)), []heard{{opBinary, s}}, 0)
		add(fmt.Sprintf("%d bytes, last block marked", n), frame(0xc1, final(s)), texts(s), 0)
	}
	a := squeezed("abc", 6)
	add("messages one after another", repeat(50, frame(0xc1, a)), texts(strings.Split(strings.Repeat("abc,", 49)+"abc", ",")...), 0)
	add("compressed, then plain", join(frame(0xc1, a), frame(0x81, "plain"), frame(0xc1, a)), texts("abc", "plain", "abc"), 0)
	add("ping between fragments", join(frame(0x41, a[:2]), frame(0x89, "p"), frame(0x80, a[2:])), flatten(pongs("p"), texts("abc")), 0)
	add("RSV1 on a continuation", join(frame(0x41, a[:2]), frame(0xc0, a[2:])), nil, 1002)
	add("RSV1 on a continuation of a plain one", join(frame(0x01, "a"), frame(0xc0, "b")), nil, 1002)
	add("RSV1 on a ping", frame(0xc9, ""), nil, 1002)
	add("RSV1 on a pong", frame(0xca, ""), nil, 1002)
	add("RSV1 on a close", frame(0xc8, ""), nil, 1002)
	add("RSV2 on text", frame(0xa1, "x"), nil, 1002)
	add("RSV1 and RSV2 on text", frame(0xe1, "x"), nil, 1002)
	add("not deflated", frame(0xc1, "\xff\xff\xff"), nil, 1007)
	add("cut off", frame(0xc1, squeezed(strings.Repeat("abcdefgh", 99), 6)[:9]), nil, 1007)
	add("a distance beyond the beginning", frame(0xc1, "\x4a\x04\x82\x00\x13"), nil, 1007)
	add("more behind the last block", frame(0xc1, final("abc")+"xyz"), nil, 1007)
	add("not UTF-8", frame(0xc1, squeezed("\xed\xa0\x80", 6)), nil, 1007)
	add("UTF-8 cut at the end", frame(0xc1, squeezed("\xe2\x82", 6)), nil, 1007)
	return all
}

// echoServer is an endpoint for the length of a test.
func echoServer(t *testing.T, cfg Config, l limits) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); serveEcho(ctx, t, ln, cfg, l) }()
	t.Cleanup(func() { stop(); <-ended })
	return ln.Addr().String()
}

// run sends one case, in pieces where n is above 0, and compares.
func (c *conformance) run(t *testing.T, addr, extension string, n int) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(nc, handshake+extension+"\r\n")
	br := bufio.NewReader(nc)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols || (extension != "") != (res.Header.Get("Sec-WebSocket-Extensions") != "") {
		t.Fatalf("%s: %v %v", c.name, res, err)
	}
	_ = res.Body.Close()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for b := c.send; len(b) > 0; {
			k := len(b)
			if n > 0 {
				k = min(n, k)
			}
			if _, err := nc.Write(b[:k]); err != nil {
				return
			}
			b = b[k:]
		}
	}()
	p := &compressedPeer{peer{t: t, nc: nc, br: br}}
	for i, want := range c.want {
		op, payload, err := p.message()
		if op != want.op || payload != want.text || err != nil {
			t.Errorf("%s: answer %d is %x of %d bytes, not %x of %d: %v", c.name, i, op, len(payload), want.op, len(want.text), err)
			return
		}
	}
	if c.close == 0 {
		<-sent
		p.send(closing(1000, ""))
	}
	op, payload, err := p.message()
	if op != opClose || err != nil || int(binary.BigEndian.Uint16([]byte(payload))) != max(c.close, 1000) {
		t.Errorf("%s: ends with %x % x, not %d: %v", c.name, op, payload, c.close, err)
	}
	_ = nc.(*net.TCPConn).CloseWrite()
	if rest, err := io.ReadAll(br); len(rest) > 0 {
		t.Errorf("%s: %d bytes after close: %v", c.name, len(rest), err)
	}
}

// compressedPeer reads what may be compressed.
type compressedPeer struct{ peer }

func (p *compressedPeer) message() (op byte, payload string, err error) {
	head, err := p.br.Peek(1)
	if err != nil {
		return 0, "", err
	}
	if head[0]&rsv1 == 0 {
		op, raw, err := p.next()
		if op == opPing && err == nil {
			return p.message() // of the endpoint's own
		}
		return op, string(raw), err
	}
	_, _ = p.br.Discard(1)
	p.br = bufio.NewReader(io.MultiReader(bytes.NewReader([]byte{head[0] &^ rsv1}), p.br))
	op, raw, err := p.next()
	if err != nil {
		return op, "", err
	}
	out, err := io.ReadAll(flate.NewReader(bytes.NewReader(append(raw, deflateEnd...))))
	return op, string(out), err
}

func TestConformance(t *testing.T) { eachBackend(t, testConformance) }

func testConformance(t *testing.T, cfg Config) {
	t.Helper()
	addr := echoServer(t, cfg, echoLimits)
	const extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
	plain, squeezed := conformances(), deflated()
	for _, c := range plain {
		if testing.Short() && len(c.send) > 300<<10 {
			continue
		}
		begin := time.Now()
		c.run(t, addr, "", 0)
		if d := time.Since(begin); d > 2*time.Second && len(c.send) < 100<<10 {
			t.Errorf("%s: took %s", c.name, d)
		}
		if len(c.send) < 1000 {
			c.run(t, addr, "", 1)
		}
	}
	for _, c := range squeezed {
		c.run(t, addr, extension, 0)
		if len(c.send) < 300 {
			c.run(t, addr, extension, 1)
		}
	}
	t.Logf("%d cases, %d with compression", len(plain)+len(squeezed), len(squeezed))
}

// TestOffers asks for compression in every way.
func TestOffers(t *testing.T) {
	addr := echoServer(t, Config{}, echoLimits)
	f := func(want string, lines ...string) {
		t.Helper()
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		head := handshake
		for _, l := range lines {
			head += "Sec-WebSocket-Extensions: " + l + "\r\n"
		}
		_, _ = io.WriteString(nc, head+"\r\n")
		res, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
			t.Fatal(res, err)
		}
		_ = res.Body.Close()
		if got := strings.Join(res.Header.Values("Sec-WebSocket-Extensions"), "|"); got != want {
			t.Errorf("%q: got %q", lines, got)
		}
	}
	const yes = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	const window = yes + "; server_max_window_bits=15"
	f("")
	f(yes, "permessage-deflate")
	f(yes, "permessage-deflate;client_max_window_bits")
	f(yes, " permessage-deflate ; client_max_window_bits = 9 ; server_no_context_takeover")
	f(yes, `permessage-deflate; client_max_window_bits="15"`)
	f(window, "permessage-deflate; server_max_window_bits=15")
	f(window, "permessage-deflate; server_max_window_bits=10, permessage-deflate; server_max_window_bits=15")
	f(yes, "permessage-deflate; server_max_window_bits=10, permessage-deflate")
	f(yes, "permessage-deflate; server_max_window_bits=10", "x-other, permessage-deflate")
	f(yes, "x-webkit-deflate-frame", "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits")
	for _, bad := range []string{
		"permessage-deflate; server_max_window_bits=14", "permessage-deflate; server_max_window_bits", "permessage-deflate; server_max_window_bits=99",
		"permessage-deflate; server_max_window_bits=", "permessage-deflate; server_max_window_bits=015", "permessage-deflate; client_max_window_bits=7",
		"permessage-deflate; client_max_window_bits=16", "permessage-deflate; client_max_window_bits=08", "permessage-deflate; client_max_window_bits=99",
		"permessage-deflate; client_max_window_bits=", "permessage-deflate; client_max_window_bits; client_max_window_bits", "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
		"permessage-deflate; server_no_context_takeover=1", "permessage-deflate; client_no_context_takeover=true", "permessage-deflate; unknown", "permessage-deflate;", "permessage-deflate; ;",
		"permessage-deflate2", "xpermessage-deflate", "permessage-bzip2", "", ",,,", ";", strings.Repeat("x,", 20) + "permessage-deflate",
	} {
		f("", bad)
	}
}
