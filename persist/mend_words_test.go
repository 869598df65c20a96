package persist

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// What is lost is said in words: times as people read them, and no limits of numbers.
func TestMendWords(t *testing.T) {
	for _, c := range []struct {
		l                Loss
		tokens, from, to string
	}{
		{Loss{LastToken: anyToken, To: maxTime}, "all", "the beginning", "the end"},
		{Loss{FirstToken: 7, LastToken: 7, From: 1_760_000_000_000, To: 1_760_000_000_001}, "7", "2025-10-09T08:53:20Z", "2025-10-09T08:53:20.001Z"},
		{Loss{FirstToken: 7, LastToken: 9}, "7 to 9", "the beginning", "1970-01-01T00:00:00Z"},
		{Loss{FirstToken: 7, LastToken: anyToken, To: maxTime}, "7 to the last", "the beginning", "the end"},
	} {
		if from, to := c.l.Span(); c.l.Tokens() != c.tokens || from != c.from || to != c.to {
			t.Errorf("%+v: %s, %s, %s", c.l, c.l.Tokens(), from, to)
		}
	}
	var log bytes.Buffer
	m := &Mended{Lost: []Loss{{Kind: "1m", LastToken: anyToken, From: 1_760_000_000_000, To: maxTime}}}
	m.tell(slog.New(slog.NewTextHandler(&log, nil)))
	if text := log.String(); strings.Contains(text, "922337") || strings.Contains(text, "1760000") || !strings.Contains(text, `from=2025-10-09T08:53:20Z to="the end"`) {
		t.Error(text)
	}
}

// A report that cannot be read is no report of nothing.
func TestMendedUnreadable(t *testing.T) {
	o := testOptions(vfs.NewMem())
	if err := mustOpen(t, o).Close(); err != nil {
		t.Fatal(err)
	}
	dir := o.FS.PathJoin(o.Dir, o.Lineage)
	if err := writeFile(o.FS, o.FS.PathJoin(dir, mendedFile), []byte("{")); err != nil {
		t.Fatal(err)
	}
	rep, err := Verify(t.Context(), VerifyOptions{Dir: dir, FS: o.FS})
	if err != nil || !rep.Sound() || !losesOf(rep.Mended, "unknown") {
		t.Errorf("%+v, %v", rep, err)
	}
	s := mustOpen(t, o)
	if !losesOf(s.Recovery().Mended, "unknown") {
		t.Errorf("%+v", s.Recovery().Mended)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
