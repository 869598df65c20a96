package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// thenFunc is a store of the past under test.
type thenFunc func(ctx context.Context, q market.PastQuery) (*market.PastMarket, error)

func (f thenFunc) Past(ctx context.Context, q market.PastQuery) (*market.PastMarket, error) {
	return f(ctx, q)
}

// pastSample is the sample market at a granularity, without names for the last token.
func pastSample(g market.Granularity) *market.PastMarket {
	p := &market.PastMarket{Oldest: noon - 1_000_000, Durable: noon - 1000, Granularity: g, AsOf: noon - 60_000}
	if g == market.GranularityRaw {
		p.Seq = 700
	}
	for s := range sample().All {
		c := *s
		c.Info = nil
		p.Tokens = append(p.Tokens, market.PastToken{Snap: &c, Granularity: g})
	}
	gone := *snap(77, "GONE", "price=5", "market_cap=600000000000", "rank=9")
	gone.Info = nil
	p.Tokens = append(p.Tokens, market.PastToken{Snap: &gone, Granularity: market.Granularity1h})
	return p
}

func answering(g market.Granularity, asked *[]market.PastQuery) thenFunc {
	return func(ctx context.Context, q market.PastQuery) (*market.PastMarket, error) {
		if _, ok := ctx.Deadline(); !ok {
			return nil, errors.New("no deadline")
		}
		if asked != nil {
			*asked = append(*asked, q)
		}
		p := pastSample(g)
		if q.ID != 0 {
			p.Tokens = slices.DeleteFunc(p.Tokens, func(t market.PastToken) bool { return t.Snap.ID != q.ID })
		}
		if q.At < p.Oldest || q.At > p.Durable {
			p = &market.PastMarket{Oldest: p.Oldest, Durable: p.Durable}
		}
		return p, nil
	}
}

const (
	thenText = "2025-11-20T17:59:00.123Z"
	thenAt   = noon - 60_000
)

func TestThenList(t *testing.T) {
	var asked []market.PastQuery
	for _, g := range []market.Granularity{market.GranularityRaw, market.Granularity1m} {
		asked = nil
		b := sample()
		b.Tombstones = []market.Tombstone{{ID: 70, Time: thenAt - 5000}, {ID: 77, Time: thenAt + 1}}
		w := serve(t, Config{Past: answering(g, &asked)}, b)
		f := func(query, ids string) {
			t.Helper()
			r := w.get("/api/v1/tokens?at=" + thenText + query)
			var body struct {
				Meta struct {
					Seq             *uint64
					At, Granularity string
					AsOf            string `json:"as_of"`
				}
				Data []struct {
					ID          int
					Granularity string
				}
				Pagination struct{ Total, Next int }
			}
			if err := json.Unmarshal([]byte(r.body), &body); err != nil || r.status != 200 {
				t.Fatalf("%s: %d %v %s", query, r.status, err, r.body)
			}
			m := body.Meta
			if m.At != thenText || m.AsOf != thenText || m.Granularity != g.String() || (m.Seq != nil) != (g == market.GranularityRaw) {
				t.Errorf("%s: meta %+v", query, m)
			}
			var got []int
			for _, d := range body.Data {
				got = append(got, d.ID)
				if want := g.String(); d.Granularity != want && (d.ID != 77 || d.Granularity != "1h") {
					t.Errorf("%s: token %d of %s", query, d.ID, d.Granularity)
				}
			}
			if fmt.Sprint(got) != "["+ids+"]" {
				t.Errorf("%s: got %v, want [%s]", query, got, ids)
			}
		}
		f("", "1 77 2 3 4 6 5 7")
		f("&start=2&limit=3", "77 2 3")
		f("&sort=price&order=asc", "3 4 77 2 1 6 5 7")
		f("&sort=symbol", "3 1 4 2 6 77 7 5")
		f("&market_cap_min=100000000000", "1 77 2 5")
		f("&cap_class=large&flagged=false", "1 77 2")
		f("&ids=77,1", "1 77")
		f("&symbols=btc", "1 4")
		f("&search=eth", "2")
		if g == market.GranularityRaw {
			f("&sort=rank", "1 2 3 4 77 6 5 7")
			f("&sort=percent_change_1h", "2 1 3 4 6 77 5 7")
		}
		first := asked[0]
		if len(asked) != 1 || first.At != thenAt || first.ID != 0 || len(first.Alive) != b.Len()+1 || first.Alive[b.Len()].ID != 77 {
			t.Errorf("asked %d times, %+v", len(asked), first)
		}
	}
}

func TestThenBodies(t *testing.T) {
	f := func(g market.Granularity, target, want string) {
		t.Helper()
		w := serve(t, Config{Past: answering(g, nil)}, sample())
		if r := w.get("/api/v1" + target); r.status != 200 || !strings.HasSuffix(r.body, want) {
			t.Errorf("%s: got %d %s\nwant %s", target, r.status, r.body, want)
		}
	}
	const at = "at=" + thenText
	f(market.GranularityRaw, "/tokens/btc-coin?"+at+"&fields=price,symbol,rank,percent_change", `,"meta":{"source":"coinmarketcap","simulated":false,"epoch":"k3test","seq":700,"at":"`+thenText+
		`","granularity":"raw","as_of":"`+thenText+`"},"data":{"id":1,"symbol":"BTC","rank":1,"price":97123.45,"percent_change":{"1h":-0.5,"24h":null,"7d":null},"granularity":"raw"}}`)
	f(market.Granularity1m, "/tokens/1?"+at, `"seq":null,"at":"`+thenText+`","granularity":"1m","as_of":"`+thenText+`"},"data":{"id":1,"symbol":"BTC","name":"Btc Coin","slug":"btc-coin","cap_class":"large",`+
		`"updated_at":"2025-11-20T17:59:59.123Z","links":{"history":"/api/v1/tokens/1/history"},"price":97123.45,"market_cap":1900000000000,"volume_24h":60000000000,"velocity":0.031578947,"flags":[],"granularity":"1m"}}`)
	f(market.GranularityRaw, "/tokens/77?"+at+"&fields=symbol,name,slug,price", `"data":{"id":77,"symbol":null,"name":null,"slug":null,"price":5,"granularity":"1h"}}`)
	f(market.Granularity1d, "/tokens?ids=1,3,999&fields=id&"+at, `"data":[{"id":1,"granularity":"1d"},{"id":3,"granularity":"1d"}],"pagination":{"total":2,"start":1,"limit":100,"next":null},"missing":[999]}`)
}

func TestThenFaults(t *testing.T) {
	w := serve(t, Config{Past: answering(market.Granularity1h, nil)}, sample())
	f := func(target string, status int, wants ...string) {
		t.Helper()
		r := w.get("/api/v1/tokens" + target)
		for _, want := range wants {
			if r.status != status || !strings.Contains(r.body, want) {
				t.Errorf("%s: got %d %s, want %d %s", target, r.status, r.body, status, want)
			}
		}
	}
	const bad = "must be RFC 3339"
	for _, path := range []string{"?", "/1?", "/btc-coin?"} {
		f(path+"at=", 400, "must not be empty")
		f(path+"at=x", 400, bad, `"param":"at"`)
		f(path+"at=-1", 400, bad)
		f(path+"at=2025-11-20", 400, bad)
		f(path+"at=2025-11-20T18:00:00", 400, bad)
		f(path+"at=253402300800000", 400, bad)
		f(path+"at=1e3", 400, bad)
		f(path+"at=1&at=2", 400, "only once")
		f(path+"at=2030-01-01T00:00:00Z", 400, `"param":"at"`, "the newest durable tick, 2025-11-20T17:59:59.123Z")
		f(fmt.Sprintf("%sat=%d", path, noon-999), 400, "the newest durable tick, 2025-11-20T17:59:59.123Z")
		f(path+"at=0", 404, `"code":"not_kept"`, "the oldest time to ask for is 2025-11-20T17:43:20.123Z")
		f(path+"at="+thenText+"&fields=vwap.1h", 400, "holds vwap.1h, which is not kept", `"param":"fields"`)
		f(path+"at="+thenText+"&fields=price,rank", 400, "holds rank, which is not kept")
		f(path+"at="+thenText+"&fields=nonsense", 400, "unknown name")
	}
	const sorts = "(granularity 1h), where these are: market_cap, volume_24h, velocity, price, symbol"
	f("?at="+thenText+"&sort=rank", 400, sorts, `"param":"sort"`)
	f("?at="+thenText+"&sort=velocity_change_24h", 400, sorts)
	f("?at="+thenText+"&limit=0", 400, "from 1 to 1000")
	f("/1?at="+thenText+"&detail=full", 400, "must not be given together")
	f("/1?at="+thenText+"&range=1h", 400, "must not be given together")
	f("/99?at="+thenText, 404, `"code":"token_not_found"`, "no value of "+thenText+" or the 24 h before")
	f("/nobody?at="+thenText, 404, "no tracked token")
	f("/%21?at="+thenText, 400, "neither an id")
	f("/99999999999?at="+thenText, 400, "neither an id")
	f("/1/history?at="+thenText, 400, "is not a parameter of this route")

	w = serve(t, Config{Past: answering(market.GranularityRaw, nil)}, sample())
	f("?at="+thenText+"&sort=velocity_change_24h", 400, "market_cap, volume_24h, velocity, price, rank, symbol, percent_change_1h, percent_change_24h, percent_change_7d\"")
	w = serve(t, Config{}, sample())
	f("?at="+thenText, 503, "history_unavailable")
	f("/1?at="+thenText, 503, "history_unavailable")
	w = serve(t, Config{Past: thenFunc(func(context.Context, market.PastQuery) (*market.PastMarket, error) { return &market.PastMarket{}, nil })}, sample())
	f("?at="+thenText, 503, "history_unavailable")
	w = serve(t, Config{Past: thenFunc(func(context.Context, market.PastQuery) (*market.PastMarket, error) {
		return nil, context.DeadlineExceeded
	})}, sample())
	f("?at="+thenText, 503, `"code":"timeout"`)
	f("/1?at="+thenText, 503, `"code":"timeout"`)
}

// The answer for an instant, and its tag, outlive ticks; another name does not.
func TestThenTags(t *testing.T) {
	w := serve(t, Config{Past: answering(market.GranularityRaw, nil)}, sample())
	for _, path := range []string{"/api/v1/tokens/2?at=" + thenText, "/api/v1/tokens?at=" + thenText} {
		w.board.Store(sample())
		r := w.get(path)
		tag := r.header.Get("ETag")
		if r.status != 200 || !strings.HasPrefix(tag, `W/"k3test-at-4-`) || r.header.Get("Cache-Control") != "no-cache" {
			t.Fatalf("%s: %d %v", path, r.status, r.header)
		}
		next := sample()
		next.Seq++
		w.board.Store(next)
		if r := w.get(path, "If-None-Match", tag); r.status != 304 {
			t.Errorf("%s: got %d %s after a tick", path, r.status, r.header.Get("ETag"))
		}
		other := w.get(strings.Replace(path, ":00.123Z", ":01.123Z", 1))
		if other.status != 200 || other.header.Get("ETag") == tag {
			t.Errorf("%s: another instant has the tag %s", path, tag)
		}
	}
	named := boardOf(900, snap(2, "NEW"))
	w.board.Store(named)
	if r := w.get("/api/v1/tokens/2?at=" + thenText); !strings.Contains(r.body, `"symbol":"NEW"`) {
		t.Errorf("got %s", r.body)
	}
}

// Few whole markets are read at a time; the same instant is read once.
func TestThenIsBounded(t *testing.T) {
	var under, most, reads atomic.Int32
	release := make(chan struct{})
	inside := make(chan struct{}, 16)
	past := thenFunc(func(ctx context.Context, q market.PastQuery) (*market.PastMarket, error) {
		reads.Add(1)
		n := under.Add(1)
		defer under.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		inside <- struct{}{}
		<-release
		return answering(market.Granularity1m, nil)(ctx, q)
	})
	w := serve(t, Config{Past: past}, sample())
	const asking = thenReads + thenWaits
	done := make(chan int, asking)
	for i := range asking {
		go func() {
			done <- w.get(fmt.Sprintf("/api/v1/tokens?at=%d&limit=%d", thenAt-market.Time(i%4), 1+i/4)).status
		}()
	}
	for range thenReads {
		<-inside
	}
	// Who comes when all turns are taken is told so; questions about one token
	// have turns of their own.
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for len(w.api.lists) < asking {
		<-ticker.C
	}
	if r := w.get("/api/v1/tokens?at=" + thenText + "&limit=99"); r.status != 503 || !strings.Contains(r.body, `"code":"busy"`) {
		t.Errorf("got %d %s", r.status, r.body)
	}
	if len(w.api.queries) != 0 {
		t.Error("lists take the turns of the history")
	}
	close(release)
	for range asking {
		if status := <-done; status != 200 {
			t.Errorf("got %d", status)
		}
	}
	if most.Load() > thenReads || reads.Load() > 4+thenReads*3 {
		t.Errorf("%d at a time, %d reads", most.Load(), reads.Load())
	}
}

func TestPastBoardsAreBounded(t *testing.T) {
	var c pastBoards
	tokens := make([]*market.Snapshot, thenBytes/thenTokenBytes/4)
	of := func(at market.Time, n int) *pastBoard {
		b := &market.Board{Shards: [][]*market.Snapshot{tokens[:n]}}
		return &pastBoard{at: at, epoch: "e", orders: &orders{board: b}, built: time.Now()}
	}
	for at := market.Time(1); at <= 3; at++ {
		c.keep(of(at, len(tokens)))
	}
	if c.find("e", 1) == nil || c.find("x", 1) != nil {
		t.Fatal("not found, or of another epoch")
	}
	c.keep(of(4, len(tokens)))
	c.keep(of(4, len(tokens)))
	if len(c.boards) != 3 || c.find("e", 2) != nil || c.find("e", 1) == nil || c.find("e", 4) == nil {
		t.Errorf("kept %d", len(c.boards))
	}
	old := of(9, 1)
	old.built = time.Now().Add(-thenLife - time.Second)
	c.keep(old)
	if c.find("e", 9) != nil {
		t.Error("an old one was found")
	}
	for at := market.Time(100); at < 300; at++ {
		c.keep(of(at, 0))
	}
	if len(c.boards) != thenBoards {
		t.Errorf("kept %d", len(c.boards))
	}
}
