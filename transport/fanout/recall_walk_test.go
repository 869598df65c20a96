package fanout

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

// TestRecallLosesNothing cuts clients anywhere in what is on its way to them.
// They know no position, only the seq of the newest whole data message that they
// had, and must hold the board of each channel's position after coming back.
func TestRecallLosesNothing(t *testing.T) {
	// The first ones lost something once: differences to a client that was ahead, a
	// message that was out in part, a round that went back.
	seeds := []uint64{46, 104, 113, 279, 0, 1, 2}
	if testing.Short() {
		seeds = seeds[:2]
	}
	var cuts, recovered, anew int
	for _, seed := range seeds {
		w, err := recallWalk(t, seed, nil)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		cuts, recovered, anew = cuts+w.cuts, recovered+w.recovered, anew+w.anew
	}
	t.Logf("%d cuts, %d subscriptions recovered, %d began anew", cuts, recovered, anew)
	if !testing.Short() && cuts < 50 || recovered < cuts/2 || anew == 0 {
		t.Fatal("too few of them")
	}
}

// TestRecallNeedsMarks is the same with ways to come back that lose something:
// the walk must notice.
func TestRecallNeedsMarks(t *testing.T) {
	f := func(name string, spoil func(tr *traveller, mem *Memory)) {
		t.Helper()
		for seed := range uint64(24) {
			if _, err := recallWalk(t, seed, spoil); err != nil {
				t.Logf("%s: seed %d: %v", name, seed, err)
				return
			}
		}
		t.Fatalf("%s: nothing was noticed", name)
	}
	// at puts another position where a subscription would go on.
	at := func(pos func(tr *traveller, i int) uint64) func(*traveller, *Memory) {
		return func(tr *traveller, mem *Memory) {
			for i := range mem.Items {
				if it := &mem.Items[i]; mem.request(it, tr.offset).Since != nil {
					it.marks = []mark{{pos: pos(tr, i)}}
				}
			}
		}
	}
	f("positions of the server", at(func(tr *traveller, i int) uint64 { return tr.s.subs[i].member.pos }))
	f("the offset as position", at(func(tr *traveller, _ int) uint64 { return tr.offset }))
	f("the seq before the offset", at(func(tr *traveller, _ int) uint64 { return tr.offset - 1 }))
}

// traveller is a client that loses its connection.
type traveller struct {
	*rig
	t       *testing.T
	rng     *rand.Rand
	spoil   func(tr *traveller, mem *Memory)
	s       *Session
	replica *wiretest.Replica
	offset  uint64 // the seq of the newest whole data message
	subs    map[uint64]*sub
	flight  [][]byte // messages that the link took
	pending bool
	err     error

	kept                  map[uint64]*wiretest.Channel // what came along, by subscription
	above                 uint64                       // the highest position among them: rows may be as new
	patience              int                          // of ten writes, those that pend
	cuts, recovered, anew int
	compared              int
}

func (tr *traveller) TryWrite(batch []Chunk) bool {
	if tr.pending {
		tr.fail(fmt.Errorf("a batch while the one before is unfinished"))
	}
	for _, chunk := range batch {
		if len(chunk.Bytes) == 0 {
			tr.fail(fmt.Errorf("an empty chunk"))
		}
		for text := range messagesOf(chunk.Bytes) {
			tr.flight = append(tr.flight, bytes.Clone(text))
		}
	}
	tr.pending = tr.rng.IntN(10) < tr.patience
	return tr.pending
}

func (tr *traveller) Close(code wire.CloseCode, _ string) { tr.fail(fmt.Errorf("closed %d", code)) }
func (tr *traveller) Abort()                              { tr.fail(fmt.Errorf("aborted")) }

func (tr *traveller) fail(err error) {
	if tr.err == nil {
		tr.err = err
	}
}

// read takes n messages off the wire.
func (tr *traveller) read(n int) {
	for range min(n, len(tr.flight)) {
		text := tr.flight[0]
		tr.flight = tr.flight[1:]
		var head wiretest.Message
		if bytes.HasPrefix(text, []byte(`{"type":"subscribed"`)) && json.Unmarshal(text, &head) == nil {
			tr.replica.Resume = tr.kept[head.Sub]
		}
		m, err := tr.replica.Apply(text)
		if err != nil {
			tr.fail(fmt.Errorf("%w: %.200s", err, text))
			return
		}
		if (m.Type == "snapshot" || m.Type == "delta") && !m.More {
			tr.offset = m.Seq
		}
		tr.check()
	}
}

// check compares every channel whose position was reached exactly.
func (tr *traveller) check() {
	for _, s := range tr.subs {
		ch := tr.replica.Of(s.no)
		if ch == nil || !ch.Exact || ch.Pos < tr.above {
			continue
		}
		tr.compared++
		if err := s.diff(tr.m.Boards[ch.Pos], ch); err != nil {
			tr.fail(fmt.Errorf("subscription %d at %d: %w", s.no, ch.Pos, err))
		}
	}
}

func (tr *traveller) written() {
	if tr.pending {
		tr.pending = false
		tr.s.Written()
	}
}

// catchUp reads all there is.
func (tr *traveller) catchUp() {
	for was := tr.patience; ; {
		tr.patience = 0
		tr.written()
		tr.read(len(tr.flight))
		if tr.patience = was; len(tr.flight) == 0 && !tr.pending || tr.err != nil {
			return
		}
	}
}

var selections = []wire.Request{
	{All: true},
	{Tokens: []market.ID{1, 2, 3}},
	{Tokens: []market.ID{5}},
	{Tokens: []market.ID{1, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}},
}

func (tr *traveller) format() wire.Format {
	f := wire.ViewFormat([]market.View{market.ViewQuote, market.ViewFull}[tr.rng.IntN(2)])
	f.Digits = wire.Digits(tr.rng.IntN(2))
	return f
}

func (tr *traveller) rate() wire.Rate {
	return []wire.Rate{wire.RateTick, wire.Rate2, wire.Rate1, wire.RateHalf, wire.RateFifth, wire.RateAuto}[tr.rng.IntN(6)]
}

// call asks for something, reads the answer and learns what it says.
func (tr *traveller) call(r *wire.Request, ids []market.ID) {
	tr.catchUp()
	tr.s.Call(r, func(dst []byte, o *Outcome) []byte {
		switch {
		case o.Err != nil && o.Err.Code == wire.UnknownToken:
			return dst
		case o.Err != nil:
			tr.fail(o.Err)
			return dst
		case r.Op == wire.OpUnsubscribe:
			delete(tr.subs, r.Sub)
			return lines{}.Append(dst, &Message{Body: wire.AppendUnsubscribed(nil, r)})
		}
		tr.learn(o, ids)
		return lines{}.Append(dst, &Message{Body: wire.AppendSubscribed(nil, r, &o.Subscription, o.UnknownIDs, o.UnknownSymbols, o.Ambiguous)})
	})
}

// learn notes what a subscription is to.
func (tr *traveller) learn(o *Outcome, ids []market.ID) {
	s := &sub{no: o.Subscription.Sub, all: ids == nil, ids: make(map[market.ID]bool), deadband: o.Subscription.Deadband}
	for _, id := range o.Taken {
		s.ids[id] = true
	}
	tr.subs[s.no] = s
}

// any returns one of the subscriptions: the same in each run of a seed.
func (tr *traveller) any() *sub {
	numbers := slices.Sorted(maps.Keys(tr.subs))
	return tr.subs[numbers[tr.rng.IntN(len(numbers))]]
}

func (tr *traveller) step() {
	switch n := tr.rng.IntN(100); {
	case n < 40:
		tr.read(tr.rng.IntN(4))
	case n < 60:
		tr.written()
	case n < 70 && len(tr.subs) < 4:
		r := selections[tr.rng.IntN(len(selections))]
		r.Op, r.Format, r.Rate = wire.OpSubscribe, tr.format(), tr.rate()
		if tr.rng.IntN(12) == 0 {
			r.Deadband = 50
		}
		tr.call(&r, r.Tokens)
	case n < 76 && len(tr.subs) > 0:
		tr.update(tr.any())
	case n < 78 && len(tr.subs) > 1:
		tr.call(&wire.Request{Op: wire.OpUnsubscribe, Sub: tr.any().no}, nil)
	case n < 84:
		tr.cut()
	}
}

func (tr *traveller) update(s *sub) {
	r := wire.Request{Op: wire.OpUpdate, Sub: s.no}
	rate, digits := tr.rate(), wire.Digits(tr.rng.IntN(2))
	ids := make([]market.ID, 0, len(s.ids))
	switch n := tr.rng.IntN(4); {
	case n < 2:
		r.Update.Rate = &rate
	case n < 3 || s.all:
		r.Update.Digits = &digits
	default:
		r.Update.Tokens = selections[1+tr.rng.IntN(3)].Tokens
	}
	if s.all {
		ids = nil
	}
	tr.call(&r, ids)
}

// connect makes a session, without anything that came over another one.
func (tr *traveller) connect() {
	lease, err := tr.Admit(visitor)
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.flight, tr.pending, tr.replica, tr.subs = nil, false, wiretest.NewReplica(), make(map[uint64]*sub)
	tr.kept = make(map[uint64]*wiretest.Channel)
	tr.s = tr.Attach(tr, Peer{Framing: lines{}, Lease: lease, Recover: true})
}

// cut loses what is on its way and comes back.
func (tr *traveller) cut() {
	tr.cuts++
	mem, had := tr.s.Memory(), tr.subs
	if mem != nil && tr.spoil != nil {
		tr.spoil(tr, mem)
	}
	kept := tr.keep(mem)
	tr.s.Detach()
	tr.connect()
	tr.s.Recall(mem, tr.offset, func(dst []byte, all []Outcome) []byte {
		for i := range all {
			dst = tr.recalled(dst, &all[i], had[mem.Items[i].Sub])
			tr.kept[all[i].Subscription.Sub] = tr.from(mem.request(&mem.Items[i], tr.offset).Since, kept[i])
		}
		return dst
	})
	if tr.rng.IntN(3) > 0 {
		tr.read(tr.rng.IntN(6))
	}
}

// keep takes the rows along. The client of a stream without channels has put all
// rows of the same tokens together: what the server knows its channel by counts.
func (tr *traveller) keep(mem *Memory) (kept []*wiretest.Channel) {
	if mem == nil {
		return nil
	}
	for i := range mem.Items {
		ch := tr.replica.Channels[tr.s.subs[i].member.ch.no]
		if ch == nil {
			ch = tr.replica.Of(mem.Items[i].Sub)
		}
		if ch == nil { // it does not know yet that it may go on
			ch = tr.kept[mem.Items[i].Sub]
		}
		kept = append(kept, ch)
	}
	if mem.Bytes() < 100*len(mem.Items) || mem.Bytes() > 8000*len(mem.Items) {
		tr.fail(fmt.Errorf("%d items of %d bytes", len(mem.Items), mem.Bytes()))
	}
	return kept
}

// from returns what the client holds as the server sees it: at a position that
// is not above what it has.
func (tr *traveller) from(since *wire.Position, had *wiretest.Channel) *wiretest.Channel {
	if since == nil || had == nil {
		return had
	}
	if since.Seq > had.Pos {
		tr.fail(fmt.Errorf("gap: %d is above position %d", since.Seq, had.Pos))
	}
	ch := *had
	ch.Pos, tr.above = since.Seq, max(tr.above, had.Pos)
	return &ch
}

func (tr *traveller) recalled(dst []byte, o *Outcome, was *sub) []byte {
	if o.Err != nil {
		tr.fail(o.Err)
		return dst
	}
	if o.Subscription.Recovered {
		tr.recovered++
	} else {
		tr.anew++
	}
	if o.Subscription.Recovered && was.deadband > 0 {
		tr.fail(fmt.Errorf("a deadband went on"))
	}
	tr.subs[o.Subscription.Sub] = &sub{no: o.Subscription.Sub, all: was.all, ids: was.ids, deadband: was.deadband}
	return lines{}.Append(dst, &Message{Body: wire.AppendSubscribed(nil, new(wire.Request), &o.Subscription, nil, nil, nil)})
}

// recallWalk lets clients travel over a random market for some minutes.
func recallWalk(t *testing.T, seed uint64, spoil func(*traveller, *Memory)) (sum traveller, err error) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 11))
		cfg := Config{
			Stall: 1 << 60, Control: 1 << 30, Batch: 512 << rng.IntN(6), MessagesPerSecond: 1e9, MessageBurst: 1e9, ErrorsPerMinute: 1e9,
			Heartbeat: time.Duration(1+rng.IntN(20)) * time.Second, Channels: []int{3, 256}[rng.IntN(2)],
		}
		r := newRig(cfg, wiretest.NewMarket(seed, 5+rng.IntN(60)))
		r.m.Moving = []float64{0.02, 0.2, 0.6}[rng.IntN(3)]
		all := make([]*traveller, 3)
		for i := range all {
			all[i] = &traveller{rig: r, t: t, rng: rng, spoil: spoil, patience: rng.IntN(10)}
			all[i].connect()
			defer func() { all[i].s.Detach() }()
		}
		for range 400 {
			all[rng.IntN(len(all))].step()
			if rng.IntN(3) == 0 {
				r.pass(time.Duration(50+rng.IntN(1500)) * time.Millisecond)
			}
		}
		for _, tr := range all {
			tr.arrive()
			sum.cuts, sum.recovered, sum.anew, sum.compared = sum.cuts+tr.cuts, sum.recovered+tr.recovered, sum.anew+tr.anew, sum.compared+tr.compared
			if err == nil {
				err = tr.err
			}
		}
	})
	return sum, err
}

// pass lets time pass, with a tick or more, and a look for silence.
func (r *rig) pass(d time.Duration) {
	<-time.After(d)
	for range 1 + r.m.Board().Seq%3 {
		r.Publish(r.m.Tick())
	}
	r.step(time.Now())
	r.sweep(time.Now())
}

// arrive reads everything until all rows are those of one tick.
func (tr *traveller) arrive() {
	for range 3 {
		tr.catchUp()
		tr.pass(30 * time.Second)
	}
	tr.catchUp()
	b := tr.m.Board()
	for _, s := range tr.subs {
		ch := tr.replica.Of(s.no)
		if tr.err != nil {
			return
		}
		if ch == nil || ch.Pos != b.Seq {
			tr.fail(fmt.Errorf("subscription %d does not come to the newest tick", s.no))
		} else if err := s.diff(b, ch); err != nil {
			tr.fail(fmt.Errorf("subscription %d at the end: %w", s.no, err))
		}
	}
}
