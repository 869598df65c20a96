package rest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp/fasthttputil"
	"go.uber.org/goleak"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/gate"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// noon is the engine time of every test board.
const noon = market.Time(1_763_661_600_123)

// dec parses a test's number; "" is null.
func dec(text string) market.Decimal {
	if text == "" {
		return market.Null
	}
	d, _, err := market.ParseDecimal([]byte(text))
	if err != nil {
		panic("BUG: bad test number " + text)
	}
	return d
}

// snap makes a snapshot with every number null but those given as name=value.
func snap(id market.ID, symbol string, values ...string) *market.Snapshot {
	name := strings.ToUpper(symbol[:1]) + strings.ToLower(symbol[1:]) + " Coin"
	s := &market.Snapshot{
		ID: id, Info: &market.Info{Symbol: symbol, Name: name, Slug: strings.ToLower(symbol) + "-coin"},
		Seq: 7, ReceivedAt: noon - 200, AcceptedPrice: market.Null, AcceptedCap: market.Null, AcceptedVolume: market.Null,
	}
	for i := range s.Exp {
		s.Exp[i] = market.NullExp
	}
	for _, f := range []market.Field{market.FieldVelocityMethod, market.FieldVelocityReason, market.FieldFlags, market.FieldFreshness} {
		s.Put(f, market.Decimal{})
	}
	for p := range market.NumPeriods {
		s.Put(p.Direction(), market.Decimal{})
	}
	s.Put(market.FieldSource, market.FromInt(int64(market.SourceCoinMarketCap)))
	s.Put(market.FieldSourceTime, market.FromInt(int64(noon-1000)))
	s.Put(market.FieldAgreeingSources, market.FromInt(1))
	for _, v := range values {
		name, text, _ := strings.Cut(v, "=")
		f, ok := market.ParseField(name)
		if !ok {
			panic("BUG: bad test field " + name)
		}
		s.Put(f, dec(text))
	}
	return s
}

func flagged(s *market.Snapshot, f market.Flags) *market.Snapshot {
	s.Put(market.FieldFlags, market.FromInt(int64(f)))
	return s
}

// boardOf seals snapshots into a board of three shards.
func boardOf(seq uint64, snaps ...*market.Snapshot) *market.Board {
	const shards = 3
	b := &market.Board{
		Epoch: "k3test", Seq: seq, Time: noon, Source: market.SourceCoinMarketCap, SourceTime: noon - 840, ReceivedAt: noon - 100,
		Shards: make([][]*market.Snapshot, shards), Index: make([]map[market.ID]int32, shards),
	}
	for i := range b.Index {
		b.Index[i] = make(map[market.ID]int32)
	}
	for _, s := range snaps {
		i := market.ShardOf(s.ID, shards)
		b.Index[i][s.ID] = int32(len(b.Shards[i]))
		b.Shards[i] = append(b.Shards[i], s)
		c, v := s.Value(market.FieldMarketCap), s.Value(market.FieldVolume24h)
		if s.Flags().Excluded() {
			c, v = s.AcceptedCap, s.AcceptedVolume
		}
		b.Totals.Tokens++
		if !c.IsNull() {
			b.Totals.MarketCap += int64(c.Float())
		}
		if !v.IsNull() {
			b.Totals.Volume24h += int64(v.Float())
		}
	}
	return b
}

// sample is a small market with every oddity that sorting and filters know.
func sample() *market.Board {
	return boardOf(813,
		snap(1, "BTC", "price=97123.45", "market_cap=1900000000000", "volume_24h=60000000000", "velocity=0.031578947", "rank=1",
			"velocity_change_1h=2.5", "velocity_direction_1h=2", "percent_change_1h=-0.5", "velocity_method=1"),
		snap(2, "ETH", "price=3100", "market_cap=370000000000", "volume_24h=30000000000", "velocity=0.081081081", "rank=2",
			"velocity_change_1h=-4", "velocity_direction_1h=3", "percent_change_1h=1.25", "velocity_method=1"),
		snap(3, "abc", "price=0.000000123", "market_cap=5000000000", "volume_24h=0", "velocity=0", "rank=3", "velocity_method=2"),
		snap(4, "BTC", "price=1", "market_cap=50000000", "volume_24h=900", "velocity=0.000018", "rank=4", "velocity_change_1h=0"),
		flagged(snap(5, "XAUT", "price=4000", "market_cap=2000000000000", "volume_24h=9000000000000", "velocity=4.5", "rank=5",
			"velocity_change_1h=900"), market.FlagOutlierVolume),
		flagged(snap(6, "NUL", "rank=0", "velocity_reason=1"), market.FlagSimulated),
		flagged(snap(7, "BAD"), market.FlagQuarantined|market.FlagStale),
	)
}

// world is everything around an API under test.
type world struct {
	t     testing.TB
	board atomic.Pointer[market.Board]
	now   atomic.Int64
	past  atomic.Pointer[pastFunc]
	gates []Gate
	api   *API
	http  http.Client
}

type pastFunc func(ctx context.Context, q market.HistoryQuery) (*market.HistoryPage, error)

func (w *world) Board() *market.Board { return w.board.Load() }

func (w *world) Gates() []Gate { return w.gates }

func (w *world) EachPoint(ctx context.Context, q market.HistoryQuery, page *market.HistoryPage, each func(*market.Point) error) error {
	p := &market.HistoryPage{DurableSeq: 800}
	if f := w.past.Load(); f != nil {
		var err error
		if p, err = (*f)(ctx, q); err != nil {
			return err
		}
	}
	*page = market.HistoryPage{DurableSeq: p.DurableSeq, Truncated: p.Truncated}
	for i := range p.Points {
		if err := each(&p.Points[i]); err != nil {
			return err
		}
	}
	page.Gaps, page.Lost, page.Next = p.Gaps, p.Lost, p.Next
	return nil
}

// serve starts the API behind a gate on an in-memory listener.
func serve(t testing.TB, cfg Config, b *market.Board) *world {
	t.Helper()
	w := &world{t: t}
	w.board.Store(b)
	w.now.Store(int64(noon))
	cfg.Boards, cfg.History, cfg.Generation = w, w, 4
	cfg.Now = func() market.Time { return market.Time(w.now.Load()) }
	w.api = New(cfg)
	routes := append(w.api.Routes(), Operations(w, w, Version{Version: "0.1.0", Go: "go1.26"})...)
	server, err := gate.New(gate.Config{}, routes...)
	if err != nil {
		t.Fatal(err)
	}
	ln := fasthttputil.NewInmemoryListener()
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	w.http.Transport = &http.Transport{
		DisableCompression: true,
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return ln.Dial() },
	}
	t.Cleanup(func() {
		w.http.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(server.Shutdown(ctx), <-done); err != nil {
			t.Error(err)
		}
	})
	return w
}

// reply is an answer read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// do sends a request; headers are name, value, name, value, and so on.
func (w *world) do(method, target string, headers ...string) reply {
	w.t.Helper()
	req, err := http.NewRequest(method, "http://localhost"+target, nil)
	if err != nil {
		w.t.Fatalf("%s %q: %v", method, target, err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := w.http.Do(req)
	if err != nil {
		w.t.Fatalf("%s %q: %v", method, target, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("%s %q: %v", method, target, err)
	}
	return reply{resp.StatusCode, resp.Header, string(body)}
}

func (w *world) get(target string, headers ...string) reply {
	w.t.Helper()
	return w.do("GET", target, headers...)
}

// big is a market of n tokens with full rows.
func big(n int) *market.Board {
	snaps := make([]*market.Snapshot, n)
	for i := range snaps {
		s := snap(market.ID(i+1), "T"+strconv.Itoa(i+1))
		for f := market.Field(1); f <= market.FieldMaxSupply; f++ {
			if f.Spec().Kind == market.KindDecimal {
				s.Put(f, market.NewDecimal(int64(i+1)*982_451_653%1_000_000_007*1000+int64(f), -6))
			}
		}
		s.Put(market.FieldRank, market.FromInt(int64(i+1)))
		snaps[i] = s
	}
	return boardOf(1, snaps...)
}
