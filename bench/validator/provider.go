//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// numbered is what the digits of a value leave for the number of its answer.
const numbered = 1_000_000

// provider is a CoinMarketCap-compatible market whose values tell which answer
// they came with: the last six digits of each are its number. It notes which
// answers a server may believe.
type provider struct {
	tokens int
	seed   uint64
	server *http.Server
	url    string

	mu    sync.Mutex
	good  []bool // by number; 0 is none
	spoil []misdeed
	rng   *rand.Rand
}

// misdeed is an answer that is not what it should be. believed says whether the
// values that are well formed in it count.
type misdeed struct {
	name     string
	believed bool
	answer   func(w http.ResponseWriter, r *http.Request, good []byte)
	rows     func(rng *rand.Rand, rows []string) // changes the rows of an answer
}

// startProvider serves the market on a free port of the loopback.
func startProvider(ctx context.Context, tokens int, seed uint64) (*provider, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("cannot open the provider's port: %w", err)
	}
	p := &provider{tokens: tokens, seed: seed, good: make([]bool, 1), rng: rand.New(rand.NewPCG(seed, 3)), url: "http://" + l.Addr().String()}
	p.server = &http.Server{Handler: http.HandlerFunc(p.listings), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = p.server.Serve(l) }()
	return p, nil
}

// exponents of the three numbered values, by field.
var exponents = map[market.Field]int8{market.FieldPrice: -8, market.FieldMarketCap: -6, market.FieldVolume24h: -6}

// noise is a number in [-1, 1) for anything.
func noise(parts ...uint64) float64 {
	v := uint64(0x9E3779B97F4A7C15)
	for _, p := range parts {
		v ^= p + 0x9E3779B97F4A7C15 + v<<6 + v>>2
		v *= 0xff51afd7ed558ccd
		v ^= v >> 32
	}
	return float64(v>>11)/(1<<52) - 1
}

// value is what a token's field is in an answer: a slow wave and a little noise,
// in steps that no rule calls an outlier.
func (p *provider) value(id market.ID, f market.Field, poll int) market.Decimal {
	size := map[market.Field]float64{market.FieldPrice: 5e5, market.FieldMarketCap: 5e9, market.FieldVolume24h: 4e8}[f]
	level := size * math.Exp(2*noise(p.seed, uint64(id), uint64(f)))
	phase := noise(p.seed, uint64(id), 77) * math.Pi
	level *= 1 + 0.03*math.Sin(float64(poll)/19+phase) + 0.004*noise(p.seed, uint64(id), uint64(f), uint64(poll))
	return market.NewDecimal(int64(level)*numbered+int64(poll), exponents[f])
}

// Poll implements ledger.Origins.
func (p *provider) Poll(id market.ID, f market.Field, d market.Decimal) (poll int, ok bool) {
	if d.Exp < exponents[f] {
		return 0, false
	}
	mant, fits := d.Rescale(exponents[f])
	poll = int(mant % numbered)
	p.mu.Lock()
	defer p.mu.Unlock()
	return poll, fits && poll > 0 && poll < len(p.good) && p.good[poll] && p.value(id, f, poll) == d
}

// answers returns how many answers were given.
func (p *provider) answers() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.good) - 1
}

// next spoils the answers to come.
func (p *provider) next(m ...misdeed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spoil = append(p.spoil, m...)
}

// wrong reports whether wrong answers are still to come.
func (p *provider) wrong() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.spoil) > 0
}

// mend ends the wrong answers.
func (p *provider) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spoil = nil
}

// listings answers the only question that a server asks.
func (p *provider) listings(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	poll := len(p.good)
	var m misdeed
	if len(p.spoil) > 0 {
		m, p.spoil = p.spoil[0], p.spoil[1:]
	}
	p.good = append(p.good, m.name == "" || m.believed)
	rows := make([]string, p.tokens)
	for i := range rows {
		rows[i] = p.row(market.ID(i+1), poll)
	}
	if m.rows != nil {
		m.rows(p.rng, rows)
	}
	p.mu.Unlock()
	body := fmt.Appendf(nil, `{"status":{"timestamp":%q,"error_code":0,"error_message":null,"elapsed":1,"credit_count":1,"total_count":%d},"data":[`, stamp(), p.tokens)
	body = append(append(body, strings.Join(rows, ",")...), "]}"...)
	w.Header().Set("Content-Type", "application/json")
	if m.answer != nil {
		m.answer(w, r, body)
		return
	}
	_, _ = w.Write(body)
}

func stamp() string { return time.Now().UTC().Format("2006-01-02T15:04:05.000Z") }

func (p *provider) row(id market.ID, poll int) string {
	price, marketCap, volume := p.value(id, market.FieldPrice, poll), p.value(id, market.FieldMarketCap, poll), p.value(id, market.FieldVolume24h, poll)
	supply := strconv.FormatFloat(marketCap.Float()/price.Float(), 'f', 2, 64)
	return fmt.Sprintf(`{"id":%d,"name":"Token %d","symbol":"T%d","slug":"token-%d","cmc_rank":%d,"circulating_supply":%s,"total_supply":%s,"max_supply":null,"last_updated":%q,`+
		`"quote":{"USD":{"price":%v,"volume_24h":%v,"percent_change_1h":%.4f,"percent_change_24h":%.4f,"percent_change_7d":null,"market_cap":%v,"market_cap_dominance":%.4f,"last_updated":%q}}}`,
		id, id, id, id, id, supply, supply, stamp(), price, volume, noise(uint64(id), uint64(poll), 1)*3, noise(uint64(id), uint64(poll), 2)*9, marketCap, 1+noise(uint64(id)), stamp())
}

// misdeeds are the ways in which an answer can be wrong.
func misdeeds() []misdeed {
	whole := func(name string, answer func(http.ResponseWriter, *http.Request, []byte)) misdeed {
		return misdeed{name: name, answer: answer}
	}
	status := func(name string, code int, header ...string) misdeed {
		return whole(name, func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
		})
	}
	text := func(name string, change func(good []byte) []byte) misdeed {
		return whole(name, func(w http.ResponseWriter, _ *http.Request, good []byte) { _, _ = w.Write(change(good)) })
	}
	return []misdeed{
		status("500", 500), status("502 as a page", 502, "Content-Type", "text/html"), status("503 with Retry-After", 503, "Retry-After", "1"), status("429", 429, "Retry-After", "1"),
		status("204", 204), status("a redirect", 302, "Location", "http://127.0.0.1:1/"),
		text("garbage", func([]byte) []byte { return []byte("\x00\xff{{{]]") }),
		text("nothing", func([]byte) []byte { return nil }),
		text("half of it", func(good []byte) []byte { return good[:len(good)/2] }),
		text("twice", func(good []byte) []byte { return append(bytes.Clone(good), good...) }),
		text("NaN", func(good []byte) []byte {
			return bytes.Replace(good, []byte(`"price":`), []byte(`"price":NaN,"was":`), 1)
		}),
		text("an error with status 200", func([]byte) []byte {
			return []byte(`{"status":{"error_code":500,"error_message":"An internal server error occurred"}}`)
		}),
		whole("a page called JSON", func(w http.ResponseWriter, _ *http.Request, _ []byte) { _, _ = w.Write([]byte("<html></html>")) }),
		whole("not the encoding it says", func(w http.ResponseWriter, _ *http.Request, good []byte) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(good)
		}),
		whole("a cut connection", func(w http.ResponseWriter, _ *http.Request, good []byte) {
			w.Header().Set("Content-Length", strconv.Itoa(len(good)))
			_, _ = w.Write(good[:len(good)/3])
			panic(http.ErrAbortHandler)
		}),
		whole("silence", func(_ http.ResponseWriter, r *http.Request, _ []byte) {
			select {
			case <-r.Context().Done():
			case <-time.After(20 * time.Second):
			}
		}),
		{name: "zeros", rows: some(0.5, "price", "0")},
		{name: "nulls everywhere", rows: some(0.9, "price", "null")},
		{name: "half of the tokens", rows: func(_ *rand.Rand, rows []string) {
			for i := range rows[:len(rows)/2] {
				rows[i] = rows[len(rows)-1]
			}
		}},
		{name: "a few nulls", believed: true, rows: some(0.08, "price", "null")},
		{name: "a few negatives", believed: true, rows: some(0.08, "market_cap", "-5")},
		{name: "a few texts", believed: true, rows: some(0.08, "volume_24h", `"many"`)},
		{name: "a few that are too large", believed: true, rows: some(0.08, "price", "1e400")},
		{name: "a few that are no objects", believed: true, rows: func(rng *rand.Rand, rows []string) { rows[rng.IntN(len(rows))] = "17" }},
		{name: "a few without a price", believed: true, rows: some(0.08, "no_price", "1")},
	}
}

// some gives a share of the rows another value for a member.
func some(share float64, member, value string) func(*rand.Rand, []string) {
	return func(rng *rand.Rand, rows []string) {
		for i, row := range rows {
			if rng.Float64() >= share {
				continue
			}
			if member == "no_price" {
				rows[i] = strings.Replace(row, `"price"`, `"no_price"`, 1)
				continue
			}
			before, after, _ := strings.Cut(row, `"`+member+`":`)
			rows[i] = before + `"` + member + `":` + value + after[strings.IndexByte(after, ','):]
		}
	}
}
