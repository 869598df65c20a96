package sse

import (
	"bytes"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/wire"
)

func TestAppend(t *testing.T) {
	f := func(m fanout.Message, want string) {
		t.Helper()
		if got := string(Events{Epoch: "k3"}.Append([]byte("x"), &m)); got != "x"+want {
			t.Errorf("got %q, not %q", got, want)
		}
	}
	f(fanout.Message{Kind: wire.KindDelta, Seq: 7, Last: true, Body: []byte("{}")}, "event: delta\nid: k3:7\ndata: {}\n\n")
	f(fanout.Message{Kind: wire.KindSnapshot, Seq: 7, Body: []byte("{}")}, "event: snapshot\ndata: {}\n\n")
	f(fanout.Message{Kind: wire.KindHeartbeat, Seq: 7, Last: true, Body: []byte("{}")}, "event: heartbeat\nid: k3:7\ndata: {}\n\n")
	f(fanout.Message{Kind: wire.KindHeartbeat, Body: []byte("{}")}, ": \nevent: heartbeat\ndata: {}\n\n")
	f(fanout.Message{Kind: wire.KindStale, Body: []byte("{}")}, "event: stale\ndata: {}\n\n")
	drain := wire.AppendDrain(nil, 5000, 3120)
	f(fanout.Message{Kind: wire.KindDrain, Body: drain}, "event: drain\nretry: 3120\ndata: "+string(drain)+"\n\n")
}

func FuzzPosition(f *testing.F) {
	for _, s := range []string{"k3:813", "", ":", "a:b:1", "k3:9007199254740992", "k3:007", "k3:+1", "k3:\x00", "é:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, ok := position(text)
		if !ok {
			if p != nil {
				t.Fatal("a position of nothing")
			}
			return
		}
		if p.Epoch == "" || len(p.Epoch) > wire.MaxID || p.Seq >= 1<<53 || !strings.HasPrefix(text, p.Epoch+":") {
			t.Fatalf("%q is %+v", text, p)
		}
		again, ok := position(p.Epoch + ":" + strconv.FormatUint(p.Seq, 10))
		if !ok || *again != *p {
			t.Fatalf("%+v is %+v", p, again)
		}
	})
}

func FuzzQuery(f *testing.F) {
	for _, s := range []string{
		"view=full&rate=1", "fields=price,velocity&digits=compact&since=k3:1", "rate=%22", "rate=1e999", "view=full&fields=price", "a&b&=c&", "%zz=%", "fields=\xff",
	} {
		f.Add(s, "k3:7", "text/event-stream")
	}
	f.Fuzz(func(t *testing.T, query, last, accept string) {
		var ctx fasthttp.RequestCtx
		ctx.Request.SetRequestURI("/?" + url.PathEscape("x"))
		ctx.Request.URI().SetQueryString(query)
		ctx.Request.Header.Set(lastEventID, last)
		ctx.Request.Header.Set("Accept", accept)
		_ = accepts(&ctx)
		r, refused := read(&ctx, 5)
		if refused != nil {
			if refused.status != 400 || refused.param == "" && !strings.HasPrefix(refused.detail, `"" is not`) || len(refused.param) > 70 {
				t.Fatalf("%q is refused with %+v", query, refused)
			}
			return
		}
		if r.Op != wire.OpSubscribe || len(r.Tokens) != 1 || r.Every || r.Top != nil || r.Deadband != 0 || r.Format.Encoding != wire.EncodingJSON {
			t.Fatalf("%q is %+v", query, r)
		}
	})
}

// FuzzBorder cuts a run of events everywhere.
func FuzzBorder(f *testing.F) {
	f.Add([]byte("abc"), uint8(1), true)
	f.Add([]byte("\n\n\n"), uint8(5), false)
	f.Fuzz(func(t *testing.T, body []byte, count uint8, id bool) {
		body = bytes.ReplaceAll(body, []byte("\n"), []byte(`\n`)) // as JSON does
		var all []byte
		ends := map[int]bool{0: true}
		for i := range int(count%8) + 1 {
			m := fanout.Message{Kind: wire.Kind(i % 8), Last: id, Body: body[:len(body)*i/8]}
			if i%3 == 0 {
				m.Seq = uint64(i)
			}
			all = Events{Epoch: "k3"}.Append(all, &m)
			ends[len(all)] = true
		}
		for n := range len(all) + 1 {
			left := border(all, n)
			if left < 0 || !ends[n+left] || left > 0 && ends[n] {
				t.Fatalf("%d left after %d of %q", left, n, all)
			}
			for k := n + 1; k < n+left; k++ {
				if ends[k] {
					t.Fatalf("%d left after %d of %q: %d is a border", left, n, all, k)
				}
			}
		}
	})
}
