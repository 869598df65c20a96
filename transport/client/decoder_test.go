package client

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// joined returns a decoder with one channel, 12, of a view.
func joined(t testing.TB, options string) *Decoder {
	t.Helper()
	d := NewDecoder(Limits{})
	must(t, d, `{"type":"hello","protocol":1,"epoch":"k3","seq":812,"server_time":1,"heartbeat_ms":15000,"source":"market","simulated":true,"limits":{},"schema_url":"/api/v1/schema"}`)
	must(t, d, `{"type":"subscribed","id":"1","sub":7,"ch":12,"tokens":2,"unknown":[],"ambiguous":[],"recovered":false,"effective":{"mode":"latest",`+options+`}}`)
	return d
}

func must(t testing.TB, d *Decoder, text string) Event {
	t.Helper()
	ev, err := d.Apply([]byte(text), false)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return ev
}

// walk sends random ticks through the test encoder and compares after each.
func walk(t testing.TB, seed uint64, options string, ticks int, encode func(*message, *Layout) ([]byte, bool)) {
	rng := rand.New(rand.NewPCG(seed, 7))
	d := joined(t, options)
	c := d.Channel(12)
	l := c.Layout()
	w := world{}
	for range 3 + rng.IntN(30) {
		w[market.ID(1+rng.IntN(60))] = l.randomRow(rng)
	}
	send := func(m *message) {
		m.ch, m.sourceTime, m.receivedAt, m.source = 12, 1763661599000, 1763661599100, market.SourceMarket
		if rng.IntN(4) == 0 {
			m.sourceTime, m.receivedAt, m.source = 0, 0, market.SourceCoinLore
		}
		text, bin := encode(m, l)
		ev, err := d.Apply(text, bin)
		if err != nil {
			t.Fatalf("seed %d: %v\n%q", seed, err, text)
		}
		if ev.Data.SourceTime != market.Time(m.sourceTime) || ev.Data.ReceivedAt != market.Time(m.receivedAt) || ev.Data.More != m.more {
			t.Fatalf("head %+v of %+v", ev.Data, m)
		}
	}
	snapshot := func(seq uint64) {
		ids := w.ids()
		for cut := rng.IntN(len(ids) + 1); ; cut = len(ids) {
			send(&message{snapshot: true, absolute: rng.IntN(2) == 0, seq: seq, rows: ids[:cut], now: w, more: cut < len(ids)})
			if ids = ids[cut:]; len(ids) == 0 {
				return
			}
		}
	}
	seq := uint64(812)
	snapshot(seq)
	for range ticks {
		if err := diff(c, w); err != nil {
			t.Fatalf("seed %d seq %d: %v", seed, seq, err)
		}
		next, changed, removed := w.step(rng, l)
		m := &message{absolute: rng.IntN(3) == 0, simulated: true, seq: seq + 1 + uint64(rng.IntN(3)), prev: seq, rows: next.ids(), masks: changed, now: next, before: w, removed: removed}
		m.absolute = m.absolute || !c.exact
		w, seq = next, m.seq
		send(m)
		if c.Position() != seq {
			t.Fatalf("position %d, want %d", c.Position(), seq)
		}
		if rng.IntN(10) == 0 {
			snapshot(seq)
		}
	}
}

var walks = map[string]struct {
	options string
	encode  func(*message, *Layout) ([]byte, bool)
}{
	"binary quote":   {`"view":"quote","digits":"full"`, func(m *message, l *Layout) ([]byte, bool) { return m.binary(l), true }},
	"binary full":    {`"view":"full","digits":"full"`, func(m *message, l *Layout) ([]byte, bool) { return m.binary(l), true }},
	"binary compact": {`"view":"full","digits":"compact"`, func(m *message, l *Layout) ([]byte, bool) { return m.binary(l), true }},
	"binary ranked": {
		`"view":"quote","digits":"compact","top":{"by":"velocity","n":5}`,
		func(m *message, l *Layout) ([]byte, bool) { return m.binary(l), true },
	},
	"object": {`"view":"full","digits":"full"`, func(m *message, l *Layout) ([]byte, bool) { return m.json(l, false), false }},
	"array":  {`"fields":["price","velocity","flags","rank"]`, func(m *message, l *Layout) ([]byte, bool) { return m.json(l, true), false }},
}

// seeds is how many random walks to take.
func seeds(n uint64) uint64 {
	if testing.Short() {
		return n / 6
	}
	return n
}

func TestWalk(t *testing.T) {
	for name, w := range walks {
		t.Run(name, func(t *testing.T) {
			for seed := range seeds(60) {
				walk(t, seed, w.options, 40, w.encode)
			}
		})
	}
}

// TestRules is what a server must not send, and what it may.
func TestRules(t *testing.T) {
	const whole = `{"id":1,"symbol":"A","name":"A","slug":"a","price":1}`
	head := func(typ, rest string) string {
		return `{"type":"` + typ + `","ch":12,"source":"market","source_time":1,"received_at":2,"simulated":true,` + rest + `}`
	}
	snap := head("snapshot", `"seq":20,"rows":[`+whole+`]`)
	f := func(want string, messages ...string) {
		t.Helper()
		d := joined(t, `"fields":["price"]`)
		var err error
		for _, m := range messages {
			if _, err = d.Apply([]byte(m), false); err != nil {
				break
			}
		}
		switch {
		case err == nil && want != "":
			t.Errorf("no error, want %q", want)
		case err != nil && (want == "" || !strings.Contains(err.Error(), want)):
			t.Errorf("%v, want %q", err, want)
		}
	}
	f("", snap, snap)
	f("", snap, head("delta", `"seq":20,"prev":20,"rows":[`+whole+`],"removed":[]`)) // heals
	f("", snap, head("delta", `"seq":25,"prev":3,"rows":[[1,1,2.5]],"removed":[]`))
	f("", snap, head("delta", `"rows":[[1,1,2.5]],"removed":[1],"seq":25,"prev":3`)) // any order
	f("", snap, head("delta", `"prev":20,"seq":21,"x":{"y":[1,{"z":"}"}]},"rows":[{"id":1,"new":[1,"]"],"price":"7"}]`))
	f("not whole", snap, head("delta", `"seq":21,"prev":20,"rows":[[2,1,2.5]]`))
	f("not whole", head("snapshot", `"seq":20,"rows":[{"id":1,"symbol":"A","name":"A","price":1}]`))
	f("gap", snap, head("delta", `"seq":25,"prev":21,"rows":[]`))
	f("below prev", snap, head("delta", `"seq":20,"prev":21,"rows":[]`))
	f("goes back", snap, head("delta", `"seq":19,"prev":18,"rows":[]`))
	f("before the snapshot", head("delta", `"seq":20,"prev":18,"rows":[]`))
	f("inside", snap, head("delta", `"seq":25,"prev":20,"rows":[],"more":true`), head("delta", `"seq":26,"prev":20,"rows":[]`))
	f("inside", snap, head("delta", `"seq":25,"prev":20,"rows":[],"more":true`), snap[:len(snap)-1]+`,"seq":30}`)
	f("removed elsewhere", head("snapshot", `"seq":20,"rows":[],"removed":[4]`))
	f("rows come twice", head("snapshot", `"seq":20,"rows":[],"rows":[]`))
	f("head is missing", head("delta", `"seq":20,"rows":[]`))
	f("no subscription has", strings.Replace(snap, `"ch":12`, `"ch":13`, 1))
	f("back", snap, `{"type":"heartbeat","ch":12,"seq":19}`)
	f("before the rows", `{"type":"heartbeat","ch":12,"seq":19}`)
	f("", snap, `{"type":"heartbeat","ch":12,"seq":21}`, `{"type":"heartbeat","server_time":5}`, `{"type":"novelty","a":[1]}`)
	f("not type", `{"typ":"novelty"}`)
	f("something after", snap+"1")
	f("no integer", head("snapshot", `"seq":20,"rows":[[01,1]]`))
	f("not a decimal", snap, head("delta", `"seq":25,"prev":20,"rows":[[1,1,2.]]`))
	f("protocol version", `{"type":"hello","protocol":9}`)
	f("not UTF-8", "{\"type\":\"x\",\"\xff\":1}")
	f("not JSON", `{"type":"x",}`)
}

func TestLimits(t *testing.T) {
	d := joined(t, `"fields":["price"]`)
	d.limits = Limits{Message: 1 << 20, Channels: 2, Tokens: 2, Text: 10}
	f := func(text string) {
		t.Helper()
		d.broken = nil
		if _, err := d.Apply([]byte(text), false); !errors.Is(err, ErrLimit) {
			t.Errorf("%.60s: %v", text, err)
		}
	}
	row := func(id int, name string) string {
		return fmt.Sprintf(`[%d,%d,1,%q,"",""]`, id, 1|market.TextFields, name)
	}
	snap := func(rows ...string) string {
		return `{"type":"snapshot","ch":12,"seq":1,"source":"market","rows":[` + strings.Join(rows, ",") + `]}`
	}
	f(snap(row(1, ""), row(2, ""), row(3, "")))
	f(snap(row(1, "123456"), row(2, "12345")))
	f(strings.Repeat(" ", 1<<20+1))
	must(t, joined(t, `"fields":["price"]`), snap(row(1, "123456")))
	d.broken = nil
	must(t, d, `{"type":"subscribed","sub":8,"ch":13,"effective":{}}`)
	f(`{"type":"subscribed","sub":9,"ch":14,"effective":{}}`)
}

// TestCarryOver is an update that goes on with the rows of another channel.
func TestCarryOver(t *testing.T) {
	d := joined(t, `"fields":["price"]`)
	must(t, d, `{"type":"snapshot","ch":12,"seq":20,"source":"market","rows":[{"id":1,"symbol":"A","name":"A","slug":"a","price":1}]}`)
	must(t, d, `{"type":"subscribed","id":"2","sub":8,"ch":12,"tokens":1,"recovered":false,"effective":{"fields":["price"]}}`)
	ev := must(t, d, `{"type":"subscribed","id":"3","sub":8,"ch":15,"tokens":1,"recovered":true,"from":12,"effective":{"fields":["price"],"rate":0.5}}`)
	if ev.Channel.Position() != 20 || ev.Channel.Len() != 1 || ev.Ack.Effective.Rate != "0.5" {
		t.Fatalf("%+v", ev.Channel)
	}
	must(t, d, `{"type":"delta","ch":15,"seq":21,"prev":20,"source":"market","rows":[{"id":1,"price":2}],"removed":[]}`)
	one, _ := d.Channel(12).Row(1)
	two, _ := d.Channel(15).Row(1)
	if one.Value(market.FieldPrice).Mant != 1 || two.Value(market.FieldPrice).Mant != 2 || two.Symbol() != "A" {
		t.Fatal("the channels share rows")
	}
	ev = must(t, d, `{"type":"effective","sub":7,"ch":15,"from":12,"rate":0.5}`)
	if ev.Ack.Sub != 7 || d.Channel(12) != nil || d.Subscription(7) != d.Channel(15) {
		t.Fatal("channel 12 should be gone")
	}
	must(t, d, `{"type":"unsubscribed","sub":7}`)
	must(t, d, `{"type":"unsubscribed","sub":8}`)
	if d.Channel(15) != nil || d.rows != 0 || d.text != 0 {
		t.Fatalf("%d rows, %d bytes are left", d.rows, d.text)
	}
}

func TestChecksums(t *testing.T) {
	d := joined(t, `"fields":["price","rank","flags"]`)
	must(t, d, `{"type":"snapshot","ch":12,"seq":20,"source":"market","rows":[{"id":1,"symbol":"A","name":"A","slug":"a","price":1.5,"rank":10,"flags":["frozen"]}]}`)
	r, _ := d.Channel(12).Row(1)
	sum := fmt.Sprintf("%08x", r.Checksum())
	ev := must(t, d, `{"type":"checksums","id":"5","ch":12,"seq":20,"items":[[1,"`+sum+`"],[2,"00000000"]]}`)
	if !ev.Check.Compared || ev.Check.Tokens != 2 || len(ev.Check.Differ) != 1 || ev.Check.Differ[0] != 2 {
		t.Errorf("%+v", ev.Check)
	}
	if ev = must(t, d, `{"type":"checksums","id":"5","ch":12,"seq":21,"items":[]}`); ev.Check.Compared {
		t.Errorf("%+v", ev.Check)
	}
}

// TestAllocations holds the promise that deltas of known rows cost no memory.
func TestAllocations(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector allocates")
	}
	for name, walk := range walks {
		d := joined(t, walk.options)
		l := d.Channel(12).Layout()
		now := world{1: l.randomRow(rand.New(rand.NewPCG(1, 2))), 2: l.randomRow(rand.New(rand.NewPCG(3, 4)))}
		m := message{ch: 12, seq: 813, absolute: true, snapshot: true, rows: now.ids(), now: now, masks: map[market.ID]market.Mask{
			1: market.MaskOf(market.FieldPrice, market.FieldRank, market.FieldFlags), 2: market.MaskOf(market.FieldPrice, market.FieldFreshness),
		}}
		apply := func() {
			text, bin := walk.encode(&m, l)
			if _, err := d.Apply(text, bin); err != nil {
				t.Fatal(name, err)
			}
		}
		apply()
		m.snapshot, m.prev, m.before = false, 813, now
		text, bin := walk.encode(&m, l)
		if n := testing.AllocsPerRun(100, func() {
			if _, err := d.Apply(text, bin); err != nil {
				t.Fatal(name, err)
			}
		}); n != 0 {
			t.Errorf("%s: a delta takes %v allocations", name, n)
		}
	}
}
