package recording_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/upstream/recording"
)

// answer is a listings answer of one coin, over several lines.
func answer(id int, price string) []byte {
	return fmt.Appendf(nil, "{\r\n \"status\":{\"timestamp\":\"2020-01-01T00:00:00Z\",\"error_code\":0},\n\"data\":[{\"id\":%d,\"symbol\":\"A%d\",\"name\":\"a\\nb\",\"slug\":\"a\","+
		"\"max_supply\":null,\"last_updated\":\"2026-11-20T18:00:00.000Z\",\"quote\":{\"USD\":{\"price\":%s,\"volume_24h\":0}}}]}", id, id, price)
}

const begun = market.Time(1_763_661_600_000)

func poll1(n int) (*market.Batch, [][]byte) {
	b := &market.Batch{Source: market.SourceMarket, Simulated: n%2 == 0, ReceivedAt: begun.Add(market.Millis(n) * market.Second), Cadence: 6000}
	return b, [][]byte{answer(1, fmt.Sprintf("1234567890.%06d", n)), answer(2, "5")}
}

func record(t *testing.T, w *recording.Writer, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		if err := w.Add(poll1(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, name string, polls int) (path string, whole []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	w, err := recording.Create(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	record(t, w, 0, polls)
	whole, err = os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, whole
}

var kinds = []string{"a.jsonl", "a.jsonl.gz"}

// What was written comes back: pages as one poll, every digit, what is null and
// what is missing, and what only the poll knows.
func TestWriterRoundTrip(t *testing.T) {
	for _, name := range kinds {
		path, _ := create(t, name, 3)
		r := open(t, path)
		for n, b := range all(t, r) {
			want, _ := poll1(n)
			if b.ReceivedAt != want.ReceivedAt || b.Source != want.Source || b.Simulated != want.Simulated || b.Cadence != 6000 || len(b.Quotes) != 2 {
				t.Fatalf("%s: poll %d is %+v", name, n, b)
			}
			q := &b.Quotes[0]
			if got := q.Price.String(); got != strings.TrimRight(fmt.Sprintf("1234567890.%06d", n), "0.") && n > 0 {
				t.Errorf("price %s", got)
			}
			if q.ID != 1 || q.Info.Symbol != "A1" || b.Quotes[1].ID != 2 || (q.Flags&market.FlagSimulated != 0) != want.Simulated ||
				!q.Has.Has(market.FieldMaxSupply) || !q.MaxSupply.IsNull() || q.Has.Has(market.FieldMarketCap) || q.Volume24h != (market.Decimal{}) {
				t.Errorf("%s: row %+v", name, q)
			}
		}
		if r.Len() != 3 || r.Torn() {
			t.Errorf("%s: %d polls, torn %v", name, r.Len(), r.Torn())
		}
		if _, err := recording.Create(path, 0); !errors.Is(err, os.ErrExist) {
			t.Errorf("%s was created again: %v", name, err)
		}
	}
}

// However short the end of the file is cut, the polls before it are there, and
// the file can be gone on with.
func TestTornAnywhere(t *testing.T) {
	for _, name := range kinds {
		path, whole := create(t, name, 3)
		_, two := create(t, name, 2)
		if !bytes.HasPrefix(whole, two) {
			t.Fatal("a poll depends on what comes after it")
		}
		for cut := len(two); cut <= len(whole); cut++ {
			if cut > len(two)+20 && cut < len(whole)-20 && cut%7 != 0 {
				continue
			}
			if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
				t.Fatal(err)
			}
			want, torn := 2, cut > len(two)
			if cut == len(whole) {
				want, torn = 3, false
			}
			r := open(t, path)
			readable := want
			if strings.HasSuffix(name, ".gz") && torn && cut >= len(whole)-16 {
				readable = r.Len() // perhaps all of it but its checksum
			}
			if r.Len() != readable || r.Torn() != torn || len(all(t, r)) != readable {
				t.Fatalf("%s cut to %d of %d bytes: %d polls, torn %v", name, cut, len(whole), r.Len(), r.Torn())
			}
			w, cutOff, err := recording.Append(path, 0)
			if err != nil || cutOff != torn || w.Polls() != want {
				t.Fatalf("%s cut to %d: append: %v, torn %v", name, cut, err, cutOff)
			}
			record(t, w, want, 4)
			if r := open(t, path); r.Len() != 4 || r.Torn() {
				t.Fatalf("%s cut to %d and gone on with: %d polls", name, cut, r.Len())
			}
		}
	}
}

// A process that is killed within its first answer can be started again with
// the same command; a file of somebody else's is never cut.
func TestTornFirst(t *testing.T) {
	for _, name := range kinds {
		path, whole := create(t, name, 1)
		again := 0
		for cut := range len(whole) {
			if cut > 30 && cut < len(whole)-20 && cut%7 != 0 {
				continue
			}
			if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
				t.Fatal(err)
			}
			w, torn, err := recording.Append(path, 0)
			if err != nil { // so little that nobody can tell whose it is
				if left, _ := os.ReadFile(path); !bytes.Equal(left, whole[:cut]) {
					t.Fatalf("%s cut to %d was refused and changed: %v", name, cut, err)
				}
				continue
			}
			again++
			if torn != (cut > 0) || w.Polls() != 0 || w.Size() != 0 {
				t.Fatalf("%s cut to %d: torn %v, %d polls", name, cut, torn, w.Polls())
			}
			record(t, w, 0, 2)
			if r := open(t, path); r.Len() != 2 || r.Torn() {
				t.Fatalf("%s cut to %d and begun again: %d polls", name, cut, r.Len())
			}
		}
		if again == 0 || name == "a.jsonl" && again < len(whole)/7 {
			t.Errorf("%s: only %d of %d torn files were gone on with", name, again, len(whole))
		}
	}
}

func TestWriterLimits(t *testing.T) {
	for _, name := range kinds {
		_, two := create(t, name, 2)
		path := filepath.Join(t.TempDir(), name)
		w, err := recording.Create(path, int64(len(two)))
		if err != nil {
			t.Fatal(err)
		}
		for n := range 2 {
			if err := w.Add(poll1(n)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Add(poll1(2)); !errors.Is(err, recording.ErrFull) || w.Polls() != 2 || w.Size() != int64(len(two)) {
			t.Errorf("%s: %v, %d polls", name, err, w.Polls())
		}
		_ = w.Close()
		if got, _ := os.ReadFile(path); !bytes.Equal(got, two) {
			t.Errorf("%s: the file is not whole after ErrFull", name)
		}
	}
}

// Two writers of one file do not mix their answers: the second to write ends.
func TestTwoWriters(t *testing.T) {
	path, _ := create(t, "a.jsonl", 1)
	a, _, err := recording.Append(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, _, err := recording.Append(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := a.Add(poll1(1)); err != nil {
		t.Fatal(err)
	}
	if err := b.Add(poll1(2)); err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("the second writer: %v", err)
	}
	if r := open(t, path); r.Len() != 2 {
		t.Errorf("%d polls", r.Len())
	}
}

// A clock that stands or goes back costs no poll.
func TestWriterKeepsOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.jsonl")
	w, err := recording.Create(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{5, 5, 3} {
		if err := w.Add(poll1(n)); err != nil {
			t.Fatal(err)
		}
	}
	_ = w.Close()
	r := open(t, path)
	if first, last := r.Span(); r.Len() != 3 || last.Sub(first) != 2 {
		t.Errorf("%d polls over %d ms", r.Len(), last.Sub(first))
	}
}

func TestAppendRefuses(t *testing.T) {
	_, whole := create(t, "a.jsonl", 1)
	f := func(text string) {
		t.Helper()
		if w, _, err := recording.Append(write(t, "a.jsonl", text), 0); err == nil {
			_ = w.Close()
			t.Errorf("%.40q was taken", text)
		} else if !errors.Is(err, recording.ErrOthers) {
			t.Error(err)
		}
	}
	f(lore)
	f(list)
	f(poll("2020-01-01T00:00:00Z", "") + string(whole))
	f(string(whole) + poll("2030-01-01T00:00:00Z", ""))
}

func TestRecordedRefused(t *testing.T) {
	f := func(members, what string) {
		t.Helper()
		r, err := recording.Open(write(t, "a.jsonl", `{"received_at":"2026-01-01T00:00:00Z",`+members+"}\n"))
		if err == nil {
			_ = r.Close()
			t.Errorf("%s was opened", members)
		} else if !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v; want %s", members, err, what)
		}
	}
	f(`"answers":[]`, "answers is empty")
	f(`"answers":[[]]`, "not an object")
	f(`"answers":[{}],"answers":[{}]`, "twice")
	f(`"answers":[{}]`, "without data")
	f(`"answers":[{"status":{"error_code":1001},"data":[]}]`, "code 1001")
	f(`"answers":[{"data":[]}],"simulated":1`, "neither true nor false")
	f(`"answers":[{"data":[]}],"cadence_ms":0`, "cadence_ms is not in")
	f(`"answers":[{"data":[]}],"cadence_ms":"1"`, "not a number")
}
