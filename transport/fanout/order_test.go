package fanout

import (
	"slices"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

// TestOrder holds the order of every round to the board's ids, and wants rounds
// without births and deaths to share it.
func TestOrder(t *testing.T) {
	var kept, made int
	f := func(seed uint64, churn float64, merge int) {
		t.Helper()
		m := wiretest.NewMarket(seed, 60)
		m.Churn = churn
		r := newRig(Config{}, m)
		r.Ready()
		sel := &selection{ids: []market.ID{1, 2, 3, 30, 55, 60, 61, 70}}
		last := r.newest().order()
		for range 60 {
			r.tick(merge)
			round := r.newest()
			o := round.order()
			if o == last {
				kept++
			} else {
				made++
			}
			last = o
			checkOrder(t, round)
			var got []market.ID
			sel.each(o, 2, func(i int) bool { got = append(got, o.ids[i]); return true })
			want := slices.DeleteFunc(slices.Clone(sel.ids[1:]), func(id market.ID) bool { return m.Board().Token(id) == nil })
			if !slices.Equal(got, want) {
				t.Fatalf("got %d, not %d", got, want)
			}
		}
	}
	f(1, 0, 1)
	f(2, 0.3, 1)
	f(3, 0.9, 1)
	f(4, 0.2, 4)
	if kept < 60 || made < 60 {
		t.Fatalf("%d kept, %d made", kept, made)
	}
}

func checkOrder(t *testing.T, r *round) {
	t.Helper()
	var want []market.ID
	for s := range r.board.All {
		want = append(want, s.ID)
	}
	slices.Sort(want)
	if !slices.Equal(r.order().ids, want) {
		t.Fatalf("seq %d: got %d, not %d", r.seq(), r.order().ids, want)
	}
	for i, id := range want {
		if s := r.token(i); s == nil || s != r.board.Token(id) {
			t.Fatalf("seq %d: another token in the place of %d", r.seq(), id)
		}
	}
}

// TestWholesOfThePast asks for whole rows of a round before the newest.
func TestWholesOfThePast(t *testing.T) {
	m := wiretest.NewMarket(7, 30)
	m.Churn, m.Moving = 1, 1
	r := newRig(Config{}, m)
	r.Ready()
	rounds := []*round{r.newest()}
	for range 20 {
		r.tick(1)
		rounds = append(rounds, r.newest())
	}
	f := form{format: wire.ViewFormat(market.ViewFull)}
	cached, plain := newPage(f, r.table.paces[0], &cache{most: 1 << 30}, true), newPage(f, r.table.paces[0], nil, false)
	for _, n := range []int{0, 20, 3, 20, 19, 10, 20} {
		at := rounds[n]
		for i := range at.order().ids {
			got := string(cached.whole(nil, at.board.Source, at.order(), i, at.token(i)))
			if want := string(plain.whole(nil, at.board.Source, at.order(), i, at.token(i))); got != want || want == "" {
				t.Fatalf("round %d: got %s, not %s", n, got, want)
			}
		}
	}
}
