package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist"
)

// accept asks for a media type.
func (s *server) accept(path, media string) string {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+path, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Accept", media)
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %v, %d %s", path, err, resp.StatusCode, text)
	}
	return string(text)
}

// listedToken is a token as a list has it.
type listedToken struct {
	ID     market.ID `json:"id"`
	Symbol string    `json:"symbol"`
}

var (
	memberNumber  = regexp.MustCompile(`"seq":([1-9]\d*)`)
	durableNumber = regexp.MustCompile(`"durable_seq":(\d+)`)
)

// told is what a server says of a token.
type told struct {
	id     market.ID
	symbol string
	pages  map[string]string // by granularity and format
}

var exportMedia = map[string]string{"csv": "text/csv", "ndjson": "application/x-ndjson"}

// An export is what /history says of every token, in the order of ids.
func TestExportSaysWhatHistorySays(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	const stretch = "from=2025-03-01T00:00:00Z&to=2025-03-09T00:00:00Z"
	s := startServer(t, data, "--replay", hardSeries(t), "--speed", "max")
	s.until("/readyz", func(_ int, body string) bool { return strings.Contains(body, "the recording has ended") })
	s.until("/api/v1/tokens/1/history?granularity=1d&"+stretch, func(_ int, body string) bool {
		newest, durable := memberNumber.FindStringSubmatch(body), durableNumber.FindStringSubmatch(body)
		return newest != nil && durable != nil && newest[1] == durable[1]
	})
	_, board := s.get("/api/v1/tokens?limit=500&fields=id,symbol")
	var list struct{ Data []listedToken }
	if err := json.Unmarshal([]byte(board), &list); err != nil || len(list.Data) < 3 {
		t.Fatalf("%v: %s", err, board)
	}
	slices.SortFunc(list.Data, func(a, b listedToken) int { return cmp.Compare(a.ID, b.ID) })
	var tokens []told
	for _, d := range list.Data {
		k := told{id: d.ID, symbol: d.Symbol, pages: map[string]string{}}
		for g := range market.NumGranularities {
			for format, media := range exportMedia {
				k.pages[g.String()+format] = s.accept(fmt.Sprintf("/api/v1/tokens/%d/history?%s&limit=10000&granularity=%s", d.ID, stretch, g), media)
			}
		}
		tokens = append(tokens, k)
	}
	if o := runApp(t.Context(), nil, "export", "--data", data); o.code != exitTemporary || !strings.Contains(o.stderr, "/history") || o.stdout != "" {
		t.Errorf("beside a server: %+v", o)
	}
	s.stop()
	for g := range market.NumGranularities {
		if raceDetector && g%3 != 0 {
			continue
		}
		for format := range exportMedia {
			compareExport(t, data, g.String(), format, tokens)
		}
	}
	compareExport(t, data, "1m", "csv", tokens[1:3])
}

func compareExport(t *testing.T, data, granularity, format string, tokens []told) {
	t.Helper()
	args := []string{"export", "--data", data, "-g", granularity, "--format", format, "--from", "2025-03-01T00:00:00Z", "--to", "2025-03-09T00:00:00Z"}
	ids, want := "", ""
	for i, k := range tokens {
		ids = fmt.Sprintf("%d,%s", k.id, ids)
		for j, line := range strings.SplitAfter(k.pages[granularity+format], "\n") {
			switch {
			case line == "" || format == "csv" && j == 0 && i > 0:
			case format == "csv" && j == 0:
				want += "id,symbol," + line
			case format == "csv":
				want += fmt.Sprintf("%d,%s,", k.id, k.symbol) + line
			default:
				want += fmt.Sprintf(`{"id":%d,"symbol":%q,`, k.id, k.symbol) + line[1:]
			}
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	o := runApp(t.Context(), nil, append(args, "--ids", strings.TrimSuffix(ids, ","), "--out", out)...)
	got, err := os.ReadFile(out)
	if o.code != exitOK || err != nil || string(got) != want {
		t.Errorf("%s %s: exit %d, %v: %d bytes, want %d: %s", granularity, format, o.code, err, len(got), len(want), o.stderr)
	}
	if want == "" || format == "csv" && strings.Count(want, "\n") < 20 {
		t.Errorf("%s %s: there is nothing to compare: %s", granularity, format, want)
	}
	if granularity != "1h" {
		return
	}
	if all := runApp(t.Context(), nil, args...); all.code != exitOK || !strings.Contains(all.stdout, strings.SplitN(want, "\n", 2)[0]) {
		t.Errorf("%s %s: all: exit %d, %s", granularity, format, all.code, all.stderr)
	}
}

// smallStore makes a store of two tokens with a hole in its history.
func smallStore(t *testing.T) (data string) {
	t.Helper()
	data = filepath.Join(t.TempDir(), "data")
	store, err := persist.Open(persist.Options{Dir: data, Lineage: "small"})
	if err != nil {
		t.Fatal(err)
	}
	u := runHard(t, hardSeries(t))
	if err := store.Reserve(u.last()); err != nil {
		t.Fatal(err)
	}
	seq := uint64(0)
	for i, tk := range u.ticks[1:] {
		if i%100 >= 50 { // the other half never happened
			continue
		}
		seq++
		known := *tk
		known.Env.Seq = seq
		if err := store.Append(&known); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return data
}

// Gaps stand where they are in time, and only where they are asked for.
func TestExportGaps(t *testing.T) {
	data := smallStore(t)
	args := []string{"export", "--data", data, "-g", "1m", "--from", "2025-03-01T00:00:00Z", "--to", "2025-03-09T00:00:00Z"}
	plain, gaps := runApp(t.Context(), nil, args...), runApp(t.Context(), nil, append(args, "--gaps")...)
	var without, last string
	n, newest := 0, ""
	for line := range strings.Lines(gaps.stdout) {
		var l struct {
			ID   market.ID
			Time string
			Gap  *struct{ From, To string }
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if id := fmt.Sprint(l.ID); id != last {
			last, newest = id, ""
		}
		at := l.Time
		if l.Gap != nil {
			n++
			at = l.Gap.From
		} else {
			without += line
		}
		if at <= newest {
			t.Fatalf("%s comes after %s", line, newest)
		}
		newest = at
	}
	if without != plain.stdout || n < 10 || !strings.Contains(gaps.stderr, fmt.Sprintf("%d gaps", n)) {
		t.Errorf("%d gaps: %s; %d bytes of points, %d without --gaps", n, gaps.stderr, len(without), len(plain.stdout))
	}
	whole := runApp(t.Context(), nil, "export", "--data", data, "-g", "1d", "--gaps")
	if whole.code != exitOK || strings.Contains(whole.stdout, `"from":"1970`) || strings.Contains(whole.stdout, `"to":"9999`) || !strings.Contains(whole.stdout, `"gap"`) {
		t.Errorf("what is before the beginning or behind the end is no gap: %d %s %.2000s", whole.code, whole.stderr, whole.stdout)
	}
}

func TestExportRefuses(t *testing.T) {
	data := smallStore(t)
	empty, broken := t.TempDir(), t.TempDir()
	table := func(dir string) { // a store of which nothing but this is left
		t.Helper()
		dir = filepath.Join(dir, "market-1")
		if err := errors.Join(os.MkdirAll(dir, 0o750), os.WriteFile(filepath.Join(dir, "000004.sst"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	table(broken)
	f := func(code int, what string, args ...string) {
		t.Helper()
		o := runApp(t.Context(), nil, append([]string{"export", "--data", data}, args...)...)
		if o.code != code || !strings.Contains(o.stderr, what) || o.stdout != "" {
			t.Errorf("%q: exit %d, %s; want %d, %s", args, o.code, o.stderr, code, what)
		}
	}
	f(exitUsage, "--granularity", "-g", "2m")
	f(exitUsage, "--format", "--format", "parquet")
	f(exitUsage, "csv holds points alone", "--format", "csv", "--gaps")
	f(exitUsage, "--from", "--from", "yesterday")
	f(exitUsage, "--to", "--to", "-5")
	f(exitUsage, "before --to", "--from", "2025-03-02T00:00:00Z", "--to", "2025-03-02T00:00:00Z")
	f(exitUsage, "--ids", "--ids", "BTC")
	f(exitUsage, "--ids", "--ids", "1,,2")
	f(exitUsage, "--ids", "--ids", "0")
	f(exitUsage, "--ids", "--ids", "4294967296")
	f(exitUsage, "--out", "--out", "")
	f(exitUsage, "unknown flag", "--since", "1")
	f(exitUsage, "unknown argument", "1027")
	f(exitData, "there is: small", "--lineage", "large")
	f(exitData, "no such store", "--data", filepath.Join(empty, "absent"))
	f(exitData, "no history", "--data", empty)
	f(exitConfig, "log.level", "--log-level", "loud")
	f(exitIO, "cannot create", "--out", filepath.Join(data, "LOCK", "out"))
	table(data)
	f(exitUsage, "market-1, small")
	f(exitIO, "store is corrupt", "--data", broken)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out := filepath.Join(empty, "out")
	if o := runApp(ctx, nil, "export", "--data", data, "--lineage", "small", "--out", out); o.code != exitInterrupted {
		t.Errorf("a stop: exit %d, %s", o.code, o.stderr)
	}
	if left, _ := os.ReadDir(empty); len(left) != 0 {
		t.Errorf("half an export was left: %v", left)
	}
}

// brokenPipe is a reader that has gone.
type brokenPipe struct{ err error }

func (b brokenPipe) Write([]byte) (int, error) { return 0, b.err }

func TestExportToNobody(t *testing.T) {
	data := smallStore(t)
	f := func(err error, code int, said bool) {
		t.Helper()
		var errs lockedBuffer
		a := &app{args: []string{"export", "--data", data, "-g", "raw", "--lineage", "small"}, env: lookup(nil), stdout: brokenPipe{err}, stderr: &errs}
		if got := a.run(t.Context()); got != code || strings.Contains(errs.String(), "cannot write") != said {
			t.Errorf("%v: exit %d, %s", err, got, errs.String())
		}
	}
	f(fmt.Errorf("write: %w", syscall.EPIPE), exitOK, false)
	f(errors.New("disk full"), exitIO, true)
}
