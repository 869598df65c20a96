package upstreamtest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/source"
)

// Fetcher is what the suite tests.
type Fetcher interface {
	Fetch(ctx context.Context) (*market.Batch, error)
	Close() error
}

// Subject is a provider client under test.
type Subject struct {
	// New returns a client of http://provider.test with its default deadlines,
	// limits and a secret of Secret, that dials by the given function.
	New func(dial func(ctx context.Context, network, address string) (net.Conn, error)) (Fetcher, error)
	// Good is the body of a good answer.
	Good []byte
	// Tokens is how many quotes Good holds.
	Tokens int
	// Secret must appear in no error.
	Secret string
	// Deadline is the longest a fetch may take.
	Deadline time.Duration
}

// Run runs the suite.
func Run(t *testing.T, s Subject) {
	t.Helper()
	for _, c := range s.cases() {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { s.run(t, c) })
		})
	}
	t.Run("bomb", s.bomb)
	t.Run("cancelled", func(t *testing.T) { synctest.Test(t, s.cancelled) })
	t.Run("refused dial", func(t *testing.T) { synctest.Test(t, s.noDial) })
}

// misdeed is one thing a server does, and the kind of error it has to give;
// KindUnknown stands for success.
type misdeed struct {
	name string
	do   http.HandlerFunc
	want source.Kind
}

func (s *Subject) run(t *testing.T, c misdeed) {
	l := NewListener()
	stop := Serve(l, c.do)
	f, err := s.New(l.Dial)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	b, err := f.Fetch(t.Context())
	if took := time.Since(began); took > s.Deadline {
		t.Errorf("took %v, want at most %v", took, s.Deadline)
	}
	s.judge(t, b, err, c.want)
	for _, a := range l.Dialed() {
		if !strings.HasPrefix(a, "provider.test:") {
			t.Errorf("dialled %q", a)
		}
	}
	_ = f.Close()
	stop()
}

func (s *Subject) judge(t *testing.T, b *market.Batch, err error, want source.Kind) {
	t.Helper()
	if want == source.KindUnknown {
		if err != nil || len(b.Quotes) != s.Tokens {
			t.Errorf("got %v, %v; want %d quotes", b, err, s.Tokens)
		}
		return
	}
	var e *source.Error
	if !errors.As(err, &e) || e.Kind != want || b != nil {
		t.Errorf("got %v, want an error of kind %v", err, want)
		return
	}
	if strings.Contains(err.Error(), s.Secret) || len(err.Error()) > 400 {
		t.Errorf("the error tells too much: %.500s", err)
	}
}

func (s *Subject) cancelled(t *testing.T) {
	l := NewListener()
	stop := Serve(l, http.HandlerFunc(hang))
	f, err := s.New(l.Dial)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := f.Fetch(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the caller's own end", err)
	}
	_ = f.Close()
	stop()
}

func (s *Subject) noDial(t *testing.T) {
	never := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	f, err := s.New(never)
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.Fetch(t.Context())
	s.judge(t, b, err, source.KindTimeout)
	_ = f.Close()
}

// bomb sends a gzip body of 1 GiB of spaces and measures what it costs.
func (s *Subject) bomb(t *testing.T) {
	l := NewListener()
	stop := Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		zw := gzip.NewWriter(w)
		_, _ = io.Copy(zw, spaces(1<<30))
		_ = zw.Close()
	}))
	f, err := s.New(l.Dial)
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b, err := f.Fetch(t.Context())
	runtime.ReadMemStats(&after)
	s.judge(t, b, err, source.KindTooLarge)
	// All that was ever allocated bounds the peak from above.
	if cost := after.TotalAlloc - before.TotalAlloc; cost > 64<<20 {
		t.Errorf("a bomb costs %d MiB, want less than 64", cost>>20)
	}
	_ = f.Close()
	stop()
}

// pack compresses.
func pack(data []byte) []byte {
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	_, _ = zw.Write(data)
	_ = zw.Close()
	return b.Bytes()
}
