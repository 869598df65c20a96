package fanout

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

var visitor = Visitor{Addr: netip.MustParseAddr("127.0.0.1")}

// TestReplicaEqualsBoard walks at random through ticks, merges, joins, leaves,
// slow and fast readers, and compares every replica with the board of its seq.
func TestReplicaEqualsBoard(t *testing.T) {
	var total Stats
	var updates, resumed, sums int
	f := func(seed uint64, tokens, steps int, cfg Config) {
		t.Helper()
		w := newWalk(t, seed, tokens, cfg)
		for range steps {
			w.step()
		}
		w.finish()
		s := w.Stats()
		total.Conflated += s.Conflated
		total.Skipped += s.Skipped
		total.MergedTicks += s.MergedTicks
		total.Rates += s.Rates
		updates += w.updates
		resumed += w.resumed
		sums += w.sums()
	}
	small := Config{Stall: 1 << 60, Control: 1 << 30, Batch: 2 << 10, MessagesPerSecond: 1e9, MessageBurst: 1e9, ErrorsPerMinute: 1e9, Channels: 3, Formats: 2, Cache: 4 << 10}
	wide := small
	wide.Channels, wide.Formats, wide.Batch, wide.Cache = 256, 64, 64<<10, 128<<20
	seeds, long := uint64(6), 150
	if testing.Short() {
		seeds, long = 1, 30
	}
	for seed := range seeds {
		f(seed, 1, 150, small)
		f(seed, 40, 150, small)
		f(seed, 40, 150, wide)
	}
	f(99, 400, long, small)
	f(99, 400, long, wide)
	if testing.Short() {
		return // too few of them
	}
	if total.Conflated == 0 || total.Skipped == 0 || total.MergedTicks == 0 || total.Rates == 0 {
		t.Fatalf("the walks met no laggard: %+v", total)
	}
	if updates == 0 || resumed == 0 || sums == 0 {
		t.Fatalf("%d updates, %d resumed, %d sums", updates, resumed, sums)
	}
}

type walk struct {
	*rig
	t       *testing.T
	rng     *rand.Rand
	clients []*client
	checked int

	updates, resumed int
}

// sums returns how many checksums were compared.
func (w *walk) sums() (n int) {
	for _, c := range w.clients {
		n += c.sums
	}
	return n
}

func newWalk(t *testing.T, seed uint64, tokens int, cfg Config) *walk {
	t.Helper()
	return &walk{rig: newRig(cfg, wiretest.NewMarket(seed, tokens)), t: t, rng: rand.New(rand.NewPCG(seed, 7))}
}

func (w *walk) step() {
	w.t.Helper()
	switch n := w.rng.IntN(100); {
	case n < 30:
		w.tick(1)
	case n < 36:
		w.tick(1 + w.rng.IntN(4))
	case n < 42 && len(w.clients) < 12:
		c := connectAs(w.t, w.Hub, wire.Encoding(w.rng.IntN(2)))
		c.boards = w.m.Boards
		w.clients = append(w.clients, c)
	case n < 44:
		w.leave()
	case n < 50:
		w.now = w.now.Add(sweepEvery * 6)
		w.sweep(w.now)
	case len(w.clients) > 0:
		w.act(w.clients[w.rng.IntN(len(w.clients))])
	}
	if used := w.table.cache.used.Load(); used > int64(w.cfg.Cache) {
		w.t.Fatalf("%d bytes of rows are kept", used)
	}
	for _, c := range w.clients {
		if c.code != 0 || c.aborted {
			w.t.Fatalf("closed %d", c.code)
		}
		if c.replica.Messages != c.checkedAt {
			w.checked += c.check(w.m.Boards)
			c.checkedAt = c.replica.Messages
		}
	}
}

func (w *walk) leave() {
	if len(w.clients) == 0 {
		return
	}
	i := w.rng.IntN(len(w.clients))
	w.clients[i].s.Detach()
	w.clients[i].s.Detach() // twice is once
	w.clients = append(w.clients[:i], w.clients[i+1:]...)
}

func (w *walk) act(c *client) {
	switch n := w.rng.IntN(10); {
	case n < 3:
		c.read()
	case n < 4:
		c.slow = !c.slow
		c.drain()
	case n < 6:
		w.subscribe(c)
	case n < 7:
		w.update(c)
	case n < 8:
		w.verify(c)
	case n < 9:
		w.comeBack(c)
	default:
		w.unsubscribe(c)
	}
}

// any returns one of the client's subscriptions, nil where it has none.
func (c *client) any() *sub {
	for _, s := range c.subs {
		return s
	}
	return nil
}

// update changes a subscription at random; what contradicts it is refused.
func (w *walk) update(c *client) {
	s := c.any()
	if s == nil || c.slow {
		return
	}
	c.drain()
	change := []string{`"rate":1`, `"rate":"tick"`, `"rate":"auto"`, `"deadband_bps":20`, `"deadband_bps":0`, `"view":"full"`, `"digits":"compact"`, `"tokens":[1,2,3]`}[w.rng.IntN(8)]
	m := c.ask(`{"op":"update","id":"u","sub":%d,%s}`, s.no, change)
	switch {
	case m.Type == "error" && (m.Code == "bad_value" || m.Code == "limit" || m.Code == "busy" || m.Code == "unknown_token"):
		return
	case m.Type != "subscribed" || m.Sub != s.no || *m.ID != "u":
		w.t.Fatalf("got %+v", m)
	}
	w.updates++
	s.options += "; " + change
	if err := json.Unmarshal(m.Effective["deadband_bps"], &s.deadband); err != nil {
		w.t.Fatal(err)
	}
	if strings.HasPrefix(change, `"tokens"`) {
		s.ids = map[market.ID]bool{1: true, 2: true, 3: true}
		for _, raw := range m.Unknown {
			delete(s.ids, market.ID(raw[0]-'0'))
		}
	}
}

// verify asks for checksums; they are compared when they come.
func (w *walk) verify(c *client) {
	if s := c.any(); s != nil {
		c.s.Receive(fmt.Appendf(nil, `{"op":"verify","sub":%d,"tokens":[1,5,9,30],"heal":%v}`, s.no, w.rng.IntN(2) == 0))
	}
}

// comeBack loses the connection and goes on with one of its subscriptions on
// another one.
func (w *walk) comeBack(c *client) {
	s := c.any()
	if s == nil {
		return
	}
	held := c.replica.Of(s.no)
	if !held.Whole || s.all && s.options == "" && w.rng.IntN(3) > 0 {
		return
	}
	c.s.Detach()
	next := connectAs(w.t, w.Hub, c.s.peer.Encoding)
	next.replica.Resume, next.boards = held, c.boards
	*c = *next
	c.s.link = c
	effective := options(held, s)
	m := c.ask(`{"op":"subscribe","id":"s",%s,"since":{"epoch":"k3test","seq":%d}}`, effective, held.Pos)
	if m.Code == "busy" {
		return
	}
	if m.Type != "subscribed" {
		w.t.Fatalf("got %+v", m)
	}
	if *m.Recovered {
		w.resumed++
		if s.deadband > 0 || s.top.N > 0 {
			w.t.Fatalf("recovered %s", effective)
		}
	}
	c.subs[m.Sub] = &sub{no: m.Sub, all: s.all, ids: s.ids, deadband: s.deadband, top: s.top, options: effective}
}

// options writes down what makes the same subscription again.
func options(ch *wiretest.Channel, s *sub) string {
	var out []string
	switch {
	case s.top.N > 0:
		out = append(out, fmt.Sprintf(`"top":{"by":%q,"n":%d}`, s.top.By, s.top.N))
	case s.all:
		out = append(out, `"all":true`)
	default:
		ids := make([]string, 0, len(s.ids))
		for id := range s.ids {
			ids = append(ids, fmt.Sprint(id))
		}
		out = append(out, `"tokens":[`+strings.Join(ids, ",")+`]`)
	}
	var names []string
	for f := range (ch.Format.Fields & market.NumericFields).Fields() {
		names = append(names, f.String())
	}
	out = append(out, `"fields":["`+strings.Join(names, `","`)+`"]`, fmt.Sprintf(`"digits":%q`, ch.Format.Digits))
	if ch.Format.Encoding == wire.EncodingJSON {
		out = append(out, fmt.Sprintf(`"shape":%q,"numbers":%q`, ch.Format.Shape, ch.Format.Numbers))
	}
	if s.deadband > 0 {
		out = append(out, fmt.Sprintf(`"deadband_bps":%d`, s.deadband))
	}
	if strings.Contains(s.options, "every") && s.deadband == 0 {
		out = append(out, `"mode":"every"`)
	}
	return strings.Join(out, ",")
}

var formats = []struct{ options, json string }{
	{``, ``},
	{`,"view":"velocity","digits":"compact"`, `,"shape":"array"`},
	{`,"view":"full"`, `,"shape":"object"`},
	{`,"fields":["price","vwap_7d"]`, `,"numbers":"string"`},
}

// modes are options that change when what is sent. A deadband shows what only
// the market at some earlier tick was.
var modes = []struct {
	options  string
	deadband int
}{
	{options: ``},
	{options: `,"rate":"tick"`},
	{options: `,"rate":1`},
	{options: `,"rate":0.25`},
	{options: `,"rate":"auto"`},
	{options: `,"mode":"every"`},
	{`,"deadband_bps":100`, 100},
	{`,"rate":2,"deadband_bps":60`, 50},
}

// subscribe sends a random subscribe. Slow clients are read out first, so that
// the acknowledgement can be matched.
func (w *walk) subscribe(c *client) {
	slow := c.slow
	c.slow = false
	c.drain()
	c.slow = slow && w.rng.IntN(2) == 0
	f, mode := formats[w.rng.IntN(len(formats))], modes[w.rng.IntN(len(modes))]
	options := f.options
	if c.s.peer.Encoding == wire.EncodingJSON {
		options += f.json
	}
	s := &sub{ids: make(map[market.ID]bool)}
	what := `"all":true`
	switch n := w.rng.IntN(8); {
	case n < 5:
		what = w.list(s)
	case n < 6 && mode.deadband == 0 && !strings.Contains(mode.options, "every"):
		s.top = []wire.Top{{By: market.FieldVelocity, N: 5}, {By: market.FieldRank, N: 12}}[w.rng.IntN(2)]
		what = fmt.Sprintf(`"top":{"by":%q,"n":%d}`, s.top.By, s.top.N)
	default:
		s.all = true
	}
	s.deadband, s.options = mode.deadband, options+mode.options
	n := len(c.answers)
	c.s.Receive(fmt.Appendf(nil, `{"op":"subscribe","id":"s",%s%s%s}`, what, options, mode.options))
	for len(c.answers) == n {
		c.read()
	}
	m := c.answers[n]
	for m.Type == "effective" {
		n++
		m = c.answers[n]
	}
	if m.Code == "limit" || m.Code == "busy" {
		return
	}
	if len(s.ids) == 0 && !s.all && s.top.N == 0 {
		if m.Code != "unknown_token" {
			w.t.Fatalf("got %+v for no known token", m)
		}
		return
	}
	if m.Type != "subscribed" || *m.ID != "s" || *m.Recovered {
		w.t.Fatalf("got %+v", m)
	}
	s.no = m.Sub
	c.subs[s.no] = s
}

// list picks tokens by id; some lists are the same ones again and again.
func (w *walk) list(s *sub) string {
	var ids []string
	from, n := 1+w.rng.IntN(3), 1+w.rng.IntN(3)*20
	for id := from; id < from+n; id++ {
		ids = append(ids, fmt.Sprint(id))
		if w.m.Board().Token(market.ID(id)) != nil {
			s.ids[market.ID(id)] = true
		}
	}
	return `"tokens":[` + strings.Join(ids, ",") + `]`
}

func (w *walk) unsubscribe(c *client) {
	for no := range c.subs {
		delete(c.subs, no)
		c.s.Receive(fmt.Appendf(nil, `{"op":"unsubscribe","sub":%d}`, no))
		return
	}
}

// finish lets everybody read and compares with the newest board.
func (w *walk) finish() {
	w.t.Helper()
	w.tick(1)
	for _, c := range w.clients {
		c.slow = false
		c.drain()
	}
	w.now = w.now.Add(w.cfg.Heartbeat * 2)
	w.tick(1)
	w.sweep(w.now)
	for _, c := range w.clients {
		for _, s := range c.subs {
			if ch := c.replica.Of(s.no); ch.Pos != w.m.Board().Seq {
				w.t.Fatalf("subscription %d%s rests at %d, market at %d", s.no, s.options, ch.Pos, w.m.Board().Seq)
			}
		}
		w.checked += c.check(w.m.Boards)
		if c.biggest > w.cfg.Batch+2*wire.MaxPart && c.batches > 0 {
			w.t.Fatalf("a batch of %d bytes", c.biggest)
		}
		c.s.Detach()
	}
	w.table.expire(time.Now().Add(linger))
	if len(w.clients) > 0 && w.checked == 0 {
		w.t.Fatal("nothing was compared")
	}
	if w.table.cache.used.Load() != 0 {
		w.t.Fatalf("%d bytes of rows are kept for nobody", w.table.cache.used.Load())
	}
	if s := w.Stats(); s.Connections != 0 || s.Subscriptions != 0 || s.SharedChannels != 0 || len(w.table.entries) != 0 || len(w.table.pages) != 0 {
		w.t.Fatalf("left behind: %+v", s)
	}
}
