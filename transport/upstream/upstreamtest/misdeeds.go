package upstreamtest

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/velocimeter/velocimeter/engine/source"
)

// cases lists what the server does; a function each, so that a line is a case.
func (s *Subject) cases() []misdeed {
	good, packed := s.Good, pack(s.Good)
	flipped := bytes.Clone(packed)
	flipped[len(flipped)/2] ^= 0xFF
	deep := bytes.Repeat([]byte("["), 100_000)
	return []misdeed{
		{"good", send(200, "application/json", "", good), source.KindUnknown},
		{"good with charset", send(200, "application/json; charset=utf-8", "", good), source.KindUnknown},
		{"good gzip", send(200, "application/json", "gzip", packed), source.KindUnknown},
		{"good in small chunks", chunks(good, 100, 0), source.KindUnknown},

		{"empty", send(200, "application/json", "", nil), source.KindInvalidPayload},
		{"truncated", send(200, "application/json", "", good[:len(good)/2]), source.KindInvalidPayload},
		{"two documents", send(200, "application/json", "", append(bytes.Clone(good), good...)), source.KindInvalidPayload},
		{"byte order mark", send(200, "application/json", "", append([]byte("\xef\xbb\xbf"), good...)), source.KindInvalidPayload},
		{"utf-16", send(200, "application/json", "", []byte("\xff\xfe{\x00}\x00")), source.KindInvalidPayload},
		{"deep", send(200, "application/json", "", deep), source.KindInvalidPayload},
		{"html", send(200, "text/html", "", []byte("<html>are you a robot?</html>")), source.KindInvalidPayload},
		{"html called json", send(200, "application/json", "", []byte("<html></html>")), source.KindInvalidPayload},
		{"json called html", send(200, "text/html", "", good), source.KindInvalidPayload},
		{"unknown encoding", send(200, "application/json", "br", good), source.KindInvalidPayload},
		{"not the encoding it says", send(200, "application/json", "gzip", good), source.KindInvalidPayload},
		{"damaged gzip", send(200, "application/json", "gzip", flipped), source.KindInvalidPayload},
		{"gzip twice", send(200, "application/json", "gzip", pack(packed)), source.KindInvalidPayload},
		{"flood", flood(64 << 20), source.KindTooLarge},

		{"no answer", hang, source.KindTimeout},
		{"stall in the body", stall(good), source.KindTimeout},
		{"a byte a second", chunks(good, 1, time.Second), source.KindTimeout},
		{"closed before the answer", raw(""), source.KindNetwork},
		{"closed in the header", raw("HTTP/1.1 200 OK\r\nContent-Ty"), source.KindInvalidPayload},
		{"closed in the body", raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"), source.KindNetwork},
		{"not http", raw("SSH-2.0-OpenSSH_9.6\r\n\r\n"), source.KindInvalidPayload},

		{"redirect to another host", redirect("http://elsewhere.test/"), source.KindInvalidPayload},
		{"redirect to metadata", redirect("http://169.254.169.254/latest/"), source.KindInvalidPayload},
		{"redirect to a file", redirect("file:///etc/passwd"), source.KindInvalidPayload},
		{"redirect to itself", redirect("/"), source.KindInvalidPayload},
		{"no content", send(204, "application/json", "", nil), source.KindInvalidPayload},
		{"unauthorized", send(401, "application/json", "", []byte("{}")), source.KindAuth},
		{"not found", send(404, "text/plain", "", []byte("no")), source.KindBadRequest},
		{"too many", send(429, "text/html", "", []byte("<html>")), source.KindRateMinute},
		{"bad gateway", send(502, "text/html", "", []byte("<html>")), source.KindServer},
		{"unavailable", send(503, "", "gzip", []byte("no gzip")), source.KindServer},
		{"the key comes back", echo(s.Secret), source.KindAuth},
	}
}

func send(status int, kind, encoding string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if kind != "" {
			w.Header().Set("Content-Type", kind)
		}
		if encoding != "" {
			w.Header().Set("Content-Encoding", encoding)
		}
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}
}

func chunks(body []byte, size int, every time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for rest := body; len(rest) > 0; {
			n := min(size, len(rest))
			if _, err := w.Write(rest[:n]); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			rest = rest[n:]
			if every > 0 {
				select {
				case <-time.After(every):
				case <-r.Context().Done():
					return
				}
			}
		}
	}
}

func flood(n int64) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.Copy(w, spaces(n))
	}
}

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func stall(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

// raw writes bytes to the connection and closes it.
func raw(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, text)
		_ = conn.Close()
	}
}

func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
	}
}

// echo puts the secret into an error message, as a careless provider would.
func echo(secret string) http.HandlerFunc {
	body := `{"status":{"error_code":1001,"error_message":"key ` + secret + ` is invalid"}}`
	return send(http.StatusUnauthorized, "application/json", "", []byte(body))
}
