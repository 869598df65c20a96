//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/velocimeter/velocimeter/bench/validator/ledger"
	"github.com/velocimeter/velocimeter/engine/market"
)

func asError[E error](err error) (E, bool) { return errors.AsType[E](err) }

// reader asks the REST routes and tells the book what they say.
type reader struct {
	book   *ledger.Book
	server *server
	past   map[string][]byte // what was said of an instant that is over, by question
	told   *promises
}

// cached is how long a server may answer a question as it did before, and a
// little more.
const cached = 1500 * time.Millisecond

// promises remembers when durable_seq was told.
type promises struct {
	mu   sync.Mutex
	list []promise
}

type promise struct {
	at      time.Time
	durable uint64
}

// told notes what is promised now and returns what has been for so long that no
// cached answer may know less.
func (p *promises) told(durable uint64) (settled uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.list = append(p.list, promise{now, durable})
	for len(p.list) > 1 && now.Sub(p.list[1].at) > cached {
		p.list = p.list[1:]
	}
	if now.Sub(p.list[0].at) <= cached {
		return 0
	}
	return p.list[0].durable
}

// answer is what the routes have in common.
type answer struct {
	Meta struct {
		Epoch string `json:"epoch"`
		Seq   uint64 `json:"seq"`
	} `json:"meta"`
	Data json.RawMessage `json:"data"`
}

// tokensNow reads the whole market, tells every row and returns the tokens.
func (r *reader) tokensNow(ctx context.Context) (ids []market.ID, err error) {
	status, body, err := r.server.get(ctx, r.server.public, "/api/v1/tokens?limit=1000")
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("cannot read the market: status %d: %w", status, errStatus)
	}
	var a answer
	var rows []map[string]any
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, r.malformed("/tokens", err)
	}
	dec := json.NewDecoder(bytes.NewReader(a.Data))
	dec.UseNumber()
	if err := dec.Decode(&rows); err != nil {
		return nil, r.malformed("/tokens", err)
	}
	r.book.Epoch("/tokens", a.Meta.Epoch)
	for _, m := range rows {
		id, row, err := parseRow(m)
		if err != nil {
			return nil, r.malformed("/tokens", err)
		}
		r.book.Shown("/tokens", a.Meta.Seq, id, &row)
		ids = append(ids, id)
	}
	return ids, nil
}

func (r *reader) malformed(where string, err error) error {
	r.book.Check(ledger.Replica, false, "%s cannot be read: %v", where, err)
	return err
}

// parseRow reads a REST token: members nest by the dots of the field's path.
func parseRow(m map[string]any) (id market.ID, row ledger.Row, err error) {
	n, _ := m["id"].(json.Number)
	number, err := strconv.ParseUint(n.String(), 10, 32)
	if err != nil {
		return 0, row, fmt.Errorf("cannot read the id of a token: %w", err)
	}
	for _, s := range market.Specs() {
		if s.Field > market.NumNumeric {
			break
		}
		v, ok := lookUp(m, s.REST)
		if !ok {
			continue
		}
		d, err := parseValue(&s, v)
		if err != nil {
			return 0, row, fmt.Errorf("cannot read %q of token %d: %w", s.REST, number, err)
		}
		row.Set(s.Field, d)
	}
	return market.ID(number), row, nil
}

func lookUp(m map[string]any, path string) (any, bool) {
	for {
		name, rest, deeper := strings.Cut(path, ".")
		v, ok := m[name]
		if !deeper || !ok {
			return v, ok
		}
		if m, ok = v.(map[string]any); !ok {
			return nil, false
		}
		path = rest
	}
}

var errValue = errors.New("not a value of its kind")

// parseValue turns a member into what the stream's client has for it.
func parseValue(s *market.Spec, v any) (market.Decimal, error) {
	switch x := v.(type) {
	case nil:
		if market.EnumNames(s.Field) != nil {
			return market.FromInt(0), nil
		}
		return market.Null, nil
	case json.Number:
		d, _, err := market.ParseDecimal([]byte(x))
		return d, err //nolint:wrapcheck // the caller names the member
	case string:
		if i := slices.Index(market.EnumNames(s.Field), x); i >= 0 {
			return market.FromInt(int64(i)), nil
		}
		t, err := time.Parse(time.RFC3339, x)
		return market.FromInt(t.UnixMilli()), err //nolint:wrapcheck // likewise
	case []any:
		var flags int64
		for _, f := range x {
			name, _ := f.(string)
			i := slices.Index(market.FlagNames(), name)
			if i < 0 {
				return market.Null, errValue
			}
			flags |= 1 << i
		}
		return market.FromInt(flags), nil
	}
	return market.Null, errValue
}

// page is a page of raw history.
type page struct {
	Data struct {
		From    time.Time `json:"from"`
		Durable uint64    `json:"durable_seq"`
		Points  []struct {
			Time     time.Time   `json:"time"`
			Seq      uint64      `json:"seq"`
			Price    json.Number `json:"price"`
			Cap      json.Number `json:"market_cap"`
			Volume   json.Number `json:"volume_24h"`
			Velocity json.Number `json:"velocity"`
			Flags    []string    `json:"flags"`
		} `json:"points"`
	} `json:"data"`
	Pagination struct {
		Next string `json:"next"`
	} `json:"pagination"`
}

// history reads all raw points of a token.
func (r *reader) history(ctx context.Context, id market.ID) error {
	h := ledger.History{Who: "history", ID: id, Promised: r.told.told(r.book.Promise())}
	question := fmt.Sprintf("/api/v1/tokens/%d/history?granularity=raw&from=0&limit=5000", id)
	for cursor := ""; ; {
		status, body, err := r.server.get(ctx, r.server.public, question+cursor)
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return fmt.Errorf("cannot read history: status %d: %.300s: %w", status, body, errStatus)
		}
		var p page
		if err := json.Unmarshal(body, &p); err != nil {
			return r.malformed("history", err)
		}
		if cursor == "" {
			h.Durable = p.Data.Durable
		}
		for _, x := range p.Data.Points {
			core := ledger.Core{}
			for i, n := range []json.Number{x.Price, x.Cap, x.Volume, x.Velocity} {
				if core[i] = market.Null; n != "" {
					if core[i], _, err = market.ParseDecimal([]byte(n)); err != nil {
						return r.malformed("history", err)
					}
				}
			}
			h.Points = append(h.Points, ledger.Point{Seq: x.Seq, Time: market.TimeOf(x.Time), Core: core, Flags: strings.Join(x.Flags, " ")})
		}
		if p.Pagination.Next == "" {
			r.book.History(&h)
			return nil
		}
		cursor = "&cursor=" + p.Pagination.Next
	}
}

// minutes reads the points of one minute of a token, all of them.
func (r *reader) minutes(ctx context.Context, id market.ID) error {
	status, body, err := r.server.get(ctx, r.server.public, fmt.Sprintf("/api/v1/tokens/%d/history?granularity=1m&from=0&limit=10000", id))
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("cannot read minutes: status %d: %.300s: %w", status, body, errStatus)
	}
	var p struct {
		Data struct {
			Points []struct {
				Time  time.Time              `json:"time"`
				Count int                    `json:"count"`
				Price map[string]json.Number `json:"price"`
			} `json:"points"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return r.malformed("history", err)
	}
	var all []ledger.Minute
	for _, x := range p.Data.Points {
		m := ledger.Minute{Start: market.TimeOf(x.Time), Count: x.Count}
		for name, to := range map[string]*market.Decimal{"open": &m.Open, "high": &m.High, "low": &m.Low, "close": &m.Close} {
			*to, _, _ = market.ParseDecimal([]byte(x.Price[name])) // a null is of no use here, and 0 is wrong
		}
		all = append(all, m)
	}
	r.book.Minutes("history", id, all)
	return nil
}

// instants asks for the market at instants that are over: what was said once
// stays so. It remembers at most 64 of them.
func (r *reader) instants(ctx context.Context, rng *rand.Rand) {
	if len(r.past) < 64 {
		at := time.Now().Add(-time.Duration(2+rng.IntN(20)) * time.Second).UnixMilli()
		r.instant(ctx, fmt.Sprintf("/api/v1/tokens?limit=1000&at=%d", at))
	}
	for question := range r.past { // any of them
		r.instant(ctx, question)
		return
	}
}

func (r *reader) instant(ctx context.Context, question string) {
	status, body, err := r.server.get(ctx, r.server.public, question)
	if err != nil || status == http.StatusServiceUnavailable {
		return
	}
	old, known := r.past[question]
	if status != http.StatusOK {
		r.book.Check(ledger.Durable, !known, "%s is %d %.200s, it was answered before", question, status, body)
		return
	}
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		_ = r.malformed("?at=", err)
		return
	}
	if known {
		r.book.Check(ledger.Durable, bytes.Equal(old, a.Data), "%s is answered otherwise than before: %s", question, firstDifference(old, a.Data))
		return
	}
	r.past[question] = bytes.Clone(a.Data)
}

func firstDifference(a, b []byte) string {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	from := max(0, i-100)
	return fmt.Sprintf("…%s, before …%s", b[from:min(len(b), i+60)], a[from:min(len(a), i+60)])
}
