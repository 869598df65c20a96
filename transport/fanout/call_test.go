package fanout

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

// packets frames data messages as lines with their offset, and nothing else.
type packets struct{ single bool }

func (p packets) Append(dst []byte, m *Message) []byte {
	name := "bulk"
	switch {
	case m.Kind != wire.KindSnapshot && m.Kind != wire.KindDelta:
		return dst
	case p.single:
		name = "token"
	}
	dst = fmt.Appendf(dst, "%s %s", name, m.Body)
	if m.Last {
		dst = fmt.Appendf(dst, " %d", m.Seq)
	}
	return append(dst, '\n')
}

func (packets) Compresses() bool { return false }
func (packets) Single() Framing  { return packets{single: true} }
func (p packets) Style() wire.Style {
	if p.single {
		return wire.StyleToken
	}
	return wire.StyleBulk
}

// reader records the lines that it is written.
type reader struct {
	t       testing.TB
	s       *Session
	lines   []string
	batches int
	shared  [][]byte
	pending bool
	code    wire.CloseCode
}

func (r *reader) TryWrite(batch []Chunk) bool {
	r.batches++
	for _, c := range batch {
		if len(c.Bytes) == 0 {
			r.t.Error("an empty chunk")
		}
		if c.Shared {
			r.shared = append(r.shared, c.Bytes)
		}
		r.lines = append(r.lines, strings.SplitAfter(strings.TrimSuffix(string(c.Bytes), "\n"), "\n")...)
	}
	return r.pending
}

func (r *reader) Close(code wire.CloseCode, _ string) { r.code = code }
func (r *reader) Abort()                              {}

// take returns what came since.
func (r *reader) take() string {
	out := strings.Join(r.lines, "")
	r.lines = nil
	return strings.ReplaceAll(out, "\n", "; ")
}

func (r *hrig) reader(t testing.TB) *reader {
	l, err := r.Admit(visitor)
	if err != nil {
		t.Fatal(err)
	}
	c := &reader{t: t}
	c.s = r.Attach(c, Peer{Framing: packets{}, Lease: l, Recover: true})
	return c
}

// told writes an outcome as one line.
func told(dst []byte, o *Outcome) []byte {
	if o.Err != nil {
		return fmt.Appendf(dst, "error %s %d\n", o.Err.Code, o.RetryMS)
	}
	w := &o.Subscription
	return fmt.Appendf(dst, "ok %d %d %v %v %v %v %v\n", w.Sub, w.Tokens, o.Taken, o.UnknownIDs, o.UnknownSymbols, w.Recovered, o.Ended)
}

func price() wire.Format { return wire.FieldsFormat(market.FieldPrice.Bit()) }

// bulkOf is the packet of a message of prices.
func bulkOf(seq uint64, kind, rows string) string {
	return fmt.Sprintf(`bulk {"seq":%d,"time":null,"source":"none","source_time":null,"simulated":false,"type":"%s","rows":[%s],"removed":[]} %[1]d`, seq, kind, rows)
}

func tokenOf(seq uint64, kind, row string) string {
	return fmt.Sprintf(`token {"seq":%d,"time":null,"source":"none","source_time":null,"simulated":false,"type":"%s","token":%s} %[1]d`, seq, kind, row)
}

// TestCall wants answers ahead of the data that comes of them, and both kinds of
// channels in one session.
func TestCall(t *testing.T) {
	r := newHRig(3, Config{})
	c := r.reader(t)
	defer c.s.Detach()
	source := r.h.b.Source.String()
	f := func(q wire.Request, want ...string) {
		t.Helper()
		c.s.Call(&q, told)
		expect(t, c, source, want...)
	}
	row := func(id int, more string) string {
		return fmt.Sprintf(`{"id":%d,"symbol":"T%[1]d","name":"n","slug":"t%[1]d","price":%[1]d%s}`, id, more)
	}
	if c.batches != 0 {
		t.Fatal("a hello was written")
	}
	f(wire.Request{Op: wire.OpSubscribe, Tokens: []market.ID{1, 2, 9}, Format: price()},
		"ok 1 2 [1 2] [9] [] false []", bulkOf(1, "snapshot", row(1, "")+","+row(2, "")))
	f(wire.Request{Op: wire.OpSubscribe, Symbols: []string{"t3", "x"}, Format: price(), Single: true},
		"ok 2 1 [3] [] [x] false []", tokenOf(1, "snapshot", row(3, "")))
	f(wire.Request{Op: wire.OpSubscribe, All: true, Format: price(), Rate: wire.Rate1},
		"ok 3 3 [] [] [] false []", bulkOf(1, "snapshot", row(1, "")+","+row(2, "")+","+row(3, "")))
	f(wire.Request{Op: wire.OpSubscribe, Tokens: []market.ID{99}, Format: price()}, "error unknown_token 0")
	f(wire.Request{Op: wire.OpSubscribe, Tokens: []market.ID{1, 2}, Format: price(), Single: true}, "error bad_value 0")
	f(wire.Request{Op: wire.OpSubscribe, All: true, Format: price(), Single: true}, "error bad_value 0")
	f(wire.Request{Op: wire.OpUnsubscribe, Subs: []uint64{3, 7}}, "error unknown_subscription 0")
	f(wire.Request{Op: wire.OpUnsubscribe, Subs: []uint64{3, 3}}, "ok 0 0 [] [] [] false [3 3]")
	r.set(1, market.FieldPrice, 50)
	expect(t, c, source, bulkOf(2, "delta", `{"id":1,"price":50}`))
	r.set(3, market.FieldPrice, 60)
	expect(t, c, source, tokenOf(3, "delta", `{"id":3,"price":60}`))
	f(wire.Request{Op: wire.OpUpdate, Sub: 1, Update: wire.Update{Tokens: []market.ID{2}}},
		"ok 1 1 [2] [] [] false []", bulkOf(3, "snapshot", row(2, "")))
	f(wire.Request{Op: wire.OpUnsubscribe, Sub: 2}, "ok 0 0 [] [] [] false [2]")
	if got := c.s.counts.messages; got != 16 {
		t.Fatalf("%d messages counted", got)
	}
}

func expect(t *testing.T, c *reader, source string, want ...string) {
	t.Helper()
	text := strings.ReplaceAll(strings.Join(want, "\n")+"\n", `"source":"none"`, `"source":"`+source+`"`)
	got := strings.Join(c.lines, "")
	if strings.TrimSuffix(got, "\n") != strings.TrimSuffix(text, "\n") {
		t.Fatalf("got\n%s\nnot\n%s", got, text)
	}
	c.lines = nil
}

// TestCallEnds wants the limits of text messages to hold for calls.
func TestCallEnds(t *testing.T) {
	f := func(cfg Config, calls, answers int, last string, code wire.CloseCode, call func(s *Session, answer func([]byte, *Outcome) []byte)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) { // no time passes
			r := newHRig(3, cfg)
			c := r.reader(t)
			defer c.s.Detach()
			got := 0
			for range calls {
				call(c.s, func(dst []byte, o *Outcome) []byte { got++; c.lines = nil; return told(dst, o) })
			}
			if text := c.take(); got != answers || c.code != code || !strings.HasPrefix(text, last) {
				t.Fatalf("%d answers, last %q, close %d", got, text, c.code)
			}
		})
	}
	bad := func(s *Session, answer func([]byte, *Outcome) []byte) {
		s.Offend(&wire.RequestError{Code: wire.BadMessage}, answer)
	}
	none := func(s *Session, answer func([]byte, *Outcome) []byte) {
		s.Call(&wire.Request{Op: wire.OpUnsubscribe}, answer)
	}
	good := func(s *Session, answer func([]byte, *Outcome) []byte) {
		s.Call(&wire.Request{Op: wire.OpUnsubscribe, Subs: []uint64{}}, answer)
	}
	many := func(s *Session, answer func([]byte, *Outcome) []byte) {
		s.Call(&wire.Request{Op: wire.OpSubscribe, All: true, Format: price()}, answer)
	}
	other := func(s *Session, answer func([]byte, *Outcome) []byte) { s.Call(&wire.Request{Op: wire.OpPing}, answer) }
	f(Config{}, 4, 4, "error bad_message 0", 0, bad)
	f(Config{}, 9, 5, "error bad_message 0", wire.CloseErrors, bad)
	f(Config{}, 9, 5, "error unknown_subscription 0", wire.CloseErrors, none)
	f(Config{}, 1, 1, "error not_supported 0", 0, other)
	f(Config{Subscriptions: 1}, 4, 4, "error limit 0", wire.CloseSubAbuse, many)
	f(Config{}, 100, 100, "ok 0", 0, good)
	f(Config{}, 101, 101, "error rate ", 0, good)
	f(Config{}, 500, 120, "error rate ", wire.CloseRate, good)
	f(Config{Formats: -1}, 1, 1, "error busy 5000", 0, many)
}

func TestSend(t *testing.T) {
	r := newHRig(3, Config{Control: 100})
	c := r.reader(t)
	c.s.Send(nil)
	if c.batches != 0 {
		t.Fatal("nothing was written")
	}
	c.s.Send([]byte("one\n"))
	c.pending = true
	c.s.Send([]byte("two\n"))
	if got := c.take(); got != "onetwo" && got != "one; two" {
		t.Fatalf("got %q", got)
	}
	for range 100 {
		c.s.Send([]byte("three\n"))
	}
	if c.code != wire.CloseSlow {
		t.Fatalf("closed %d", c.code)
	}
	c.s.Detach()
	c.s.Send([]byte("four"))
	c.s.Call(&wire.Request{Op: wire.OpUnsubscribe}, func([]byte, *Outcome) []byte { t.Error("asked"); return nil })
	c.s.Recall(nil, 1, func([]byte, []Outcome) []byte { t.Error("asked"); return nil })
	if c.s.Memory() != nil || c.s.Memory().Bytes() != 0 {
		t.Fatal("a memory of nothing")
	}
}

// TestSharedStyles wants one encoding for the sessions of one style, and other
// bytes for the others.
func TestSharedStyles(t *testing.T) {
	r := newHRig(3, Config{})
	a, b, native := r.reader(t), r.reader(t), r.rec(t, wire.EncodingJSON)
	defer a.s.Detach()
	defer b.s.Detach()
	defer native.s.Detach()
	for _, c := range []*reader{a, b} {
		c.s.Call(&wire.Request{Op: wire.OpSubscribe, All: true, Format: price()}, nil)
		c.s.Call(&wire.Request{Op: wire.OpSubscribe, Tokens: []market.ID{2}, Format: price()}, nil)
		c.s.Call(&wire.Request{Op: wire.OpSubscribe, Tokens: []market.ID{2}, Format: price(), Single: true}, nil)
	}
	native.ask(`{"op":"subscribe","all":true,"fields":["price"]}`)
	if n := len(r.table.pages); n != 1 {
		t.Fatalf("%d pages", n)
	}
	a.shared, b.shared = nil, nil
	r.set(2, market.FieldPrice, 70)
	if len(a.shared) != 1 || len(b.shared) != 3 || // a list is shared from its second member on
		&a.shared[0][0] != &b.shared[0][0] {
		t.Fatalf("%d and %d shared frames", len(a.shared), len(b.shared))
	}
	if got := native.msgs[len(native.msgs)-1]; !strings.HasPrefix(got, `{"type":"delta","ch":`) {
		t.Fatalf("got %s", got)
	}
}

// TestSilentFraming lets hours pass for a framing that has no heartbeats.
func TestSilentFraming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &silent{newRig(Config{}, wiretest.NewMarket(3, 4)), t}
		s.m.Moving, s.m.Churn = 0, 0
		lease, err := s.Admit(visitor)
		if err != nil {
			t.Fatal(err)
		}
		c := &reader{t: t}
		c.s = s.Attach(c, Peer{Framing: packets{}, Lease: lease})
		defer c.s.Detach()
		for _, q := range []wire.Request{
			{Tokens: []market.ID{1}, Single: true}, {All: true}, {Tokens: []market.ID{1, 2}, Rate: wire.RateTenth},
		} {
			q.Op, q.Format = wire.OpSubscribe, price()
			c.s.Call(&q, nil)
		}
		batches, messages, since := c.batches, c.s.counts.messages, c.s.since
		for range 300 {
			s.second()
		}
		if c.batches != batches || c.s.counts.messages != messages || !c.s.since.Equal(since) || !c.s.mute {
			t.Fatalf("%d batches, %d messages, written %v after", c.batches-batches, c.s.counts.messages-messages, c.s.since.Sub(since))
		}
		for _, m := range c.s.members {
			if m.pos+40 < s.m.Board().Seq {
				t.Fatalf("at %d of %d", m.pos, s.m.Board().Seq)
			}
		}
		s.m.Moving = 1
		for range 30 {
			s.second()
		}
		if c.batches == batches || c.s.Memory() != nil {
			t.Fatal("nothing came")
		}
	})
}

// TestRetiredSingle names the token of a channel that has no row any more.
func TestRetiredSingle(t *testing.T) {
	m := wiretest.NewMarket(3, 4)
	r := newRig(Config{}, m)
	m.Churn, m.Moving, m.Keep = 1, 0, true
	lease, err := r.Admit(visitor)
	if err != nil {
		t.Fatal(err)
	}
	c := &reader{t: t}
	c.s = r.Attach(c, Peer{Framing: packets{}, Lease: lease, Recover: true})
	for id := market.ID(1); id <= 4; id++ {
		c.s.Call(&wire.Request{Op: wire.OpSubscribe, Tokens: []market.ID{id}, Format: price(), Single: true}, nil)
	}
	c.lines = nil
	for len(c.lines) == 0 {
		r.tick(1)
	}
	line, gone := c.lines[len(c.lines)-1], market.ID(0)
	for id := market.ID(1); id <= 4; id++ {
		if m.Board().Token(id) == nil {
			gone = id
		}
	}
	if want := fmt.Sprintf(`"type":"delta","token":null,"removed":[%d]} %d`, gone, m.Board().Seq); !strings.HasSuffix(strings.TrimSpace(line), want) {
		t.Fatalf("got %s, not %s", line, want)
	}
	mem := c.s.Memory()
	c.s.Detach()
	if lease, err = r.Admit(visitor); err != nil {
		t.Fatal(err)
	}
	c = &reader{t: t}
	c.s = r.Attach(c, Peer{Framing: packets{}, Lease: lease, Recover: true})
	defer c.s.Detach()
	c.s.Recall(mem, 0, func(_ []byte, all []Outcome) []byte {
		for i := range all {
			if all[i].Err != nil || all[i].Subscription.Recovered || !slices.Equal(all[i].Taken, []market.ID{market.ID(i + 1)}) {
				t.Errorf("got %+v", all[i])
			}
		}
		return nil
	})
	if want := fmt.Sprintf(`"type":"snapshot","token":null,"removed":[%d]} %d`, gone, m.Board().Seq); !strings.Contains(strings.Join(c.lines, ""), want) {
		t.Fatalf("got %s, not %s", c.lines, want)
	}
}

// TestHalfSnapshot forgets where a client was whose rows are being replaced.
func TestHalfSnapshot(t *testing.T) {
	r := newHRig(400, Config{Batch: 1})
	c := r.reader(t)
	defer c.s.Detach()
	all := wire.Request{Op: wire.OpSubscribe, All: true, Format: wire.ViewFormat(market.ViewFull)}
	c.s.Call(&all, nil)
	if mem := c.s.Memory(); len(mem.Items[0].marks) != 1 || c.s.members[0].renewing() {
		t.Fatalf("marks %v", mem.Items[0].marks)
	}
	c.pending = true
	c.s.Call(&all, nil)
	if mem := c.s.Memory(); len(mem.Items) != 2 || len(mem.Items[0].marks)+len(mem.Items[1].marks) != 0 || !c.s.members[0].renewing() {
		t.Fatalf("got %+v", mem)
	}
	c.pending = false
	c.s.Written()
	if mem := c.s.Memory(); len(mem.Items[1].marks) != 1 {
		t.Fatalf("marks %v", mem.Items[1].marks)
	}
}

// TestTrailBounds wants few marks that reach far enough back.
func TestTrailBounds(t *testing.T) {
	f := func(members, marks int, every time.Duration) {
		t.Helper()
		s := &Session{past: new(past)}
		for range members {
			s.members = append(s.members, &member{ch: new(channel), page: new(page)})
		}
		now := time.UnixMilli(1e12)
		for i := range 3000 {
			for _, m := range s.members {
				m.pos = uint64(i + 1)
			}
			s.remember(now.Add(time.Duration(i) * 500 * time.Millisecond))
		}
		list := s.members[0].trail.marks
		if len(list) != marks || list[1].at-list[0].at != every.Milliseconds() {
			t.Fatalf("%d marks, every %d ms", len(list), list[1].at-list[0].at)
		}
		if old := now.Add(1500*time.Second).UnixMilli() - list[0].at; old < (markAge - every).Milliseconds() {
			t.Fatalf("only %d ms", old)
		}
	}
	f(1, 62, 2*time.Second)
	f(16, 62, 2*time.Second)
	f(64, 16, 7500*time.Millisecond)
	f(256, 4, 30*time.Second)
	f(1000, 4, 30*time.Second)
}

// TestRecallMeets lets two subscriptions that had different rates share a channel
// when they come back: it goes on from the lower position, or begins anew.
func TestRecallMeets(t *testing.T) {
	f := func(first, second []mark, recovered bool, pos uint64) {
		t.Helper()
		r := newHRig(3, Config{})
		for i := range 5 {
			r.set(1, market.FieldPrice, int64(10+i))
		}
		c := r.reader(t)
		defer c.s.Detach()
		item := Item{Tokens: []market.ID{1, 2}, Format: price(), Rate: wire.RateAuto}
		mem := &Memory{epoch: r.h.b.Epoch, Items: []Item{item, item}}
		mem.Items[0].marks, mem.Items[1].marks = first, second
		var got []bool
		c.s.Recall(mem, 9, func(dst []byte, all []Outcome) []byte {
			for i := range all {
				got = append(got, all[i].Subscription.Recovered)
			}
			m := c.s.members[0]
			if len(c.s.members) != 1 || m.pos != pos || (m.trail != nil) != recovered || m.trail != nil && m.trail.marks[0].pos != pos {
				t.Errorf("%d members, at %d, trail %v", len(c.s.members), m.pos, m.trail)
			}
			return dst
		})
		kind := "snapshot"
		if recovered {
			kind = "delta"
		}
		if len(got) != 2 || got[1] != recovered || len(c.lines) != 1 || !strings.Contains(c.lines[0], `"`+kind+`"`) {
			t.Fatalf("recovered %v, then %s", got, c.lines)
		}
	}
	at := func(pos uint64) []mark { return []mark{{high: 5, pos: pos}} }
	f(at(3), at(3), true, 3)
	f(at(4), at(2), true, 2)
	f(at(2), at(4), true, 2)
	f(at(3), nil, false, 0)
	f(nil, at(3), false, 0)
	f(nil, nil, false, 0)
}

// TestForeignOffset takes an offset that a client brought along for none of the
// session's own.
func TestForeignOffset(t *testing.T) {
	r := newHRig(3, Config{})
	c := r.reader(t)
	defer c.s.Detach()
	c.s.Recall(nil, 1000, nil)
	c.s.Call(&wire.Request{Op: wire.OpSubscribe, All: true, Format: price()}, nil)
	r.now = time.Now().Add(3 * time.Second)
	r.set(1, market.FieldPrice, 50)
	mem := c.s.Memory()
	f := func(offset, want uint64) {
		t.Helper()
		at := mem.request(&mem.Items[0], offset).Since
		if (at == nil) != (want == 0) || at != nil && (at.Seq != want || at.Epoch != "k3") {
			t.Fatalf("at %d: %+v", offset, at)
		}
	}
	f(0, 0)
	f(1, 0)
	f(2, 1)
	f(3, 2)
	f(1000, 0) // it may have had nothing since
	f(1001, 2)
}
