package coinmarketcap

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/source"
)

// listingsAux is what v1 listings are asked for beside the quote.
const listingsAux = "cmc_rank,max_supply,circulating_supply,total_supply"

// Client polls the API. Its methods are safe for concurrent use; calls are made
// one after another, so at most one is in flight.
type Client struct {
	cfg  Config
	base *url.URL
	http *http.Client

	mu     sync.Mutex
	ring   keyring
	parser *Parser
	body   body
	tokens int // of the last fetch, to size the next one
}

// New returns a client. It does not touch the network.
func New(cfg Config) (*Client, error) {
	cfg, base, err := cfg.fill()
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, base: base, http: newHTTP(&cfg, base), ring: newKeyring(cfg.Keys), parser: NewParser()}
	if cfg.Simulated {
		c.parser.Flags |= market.FlagSimulated
	}
	return c, nil
}

// Close drops idle connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Fetch polls the tokens of the highest rank, in as many pages as it takes, as
// one batch. Errors are *source.Error, or ctx's own when ctx ended. A token
// that moved from one page to the next while they were fetched is in the batch
// once; one that moved the other way is missing from this poll.
func (c *Client) Fetch(ctx context.Context) (*market.Batch, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parser.Begin()
	quotes := make([]market.Quote, 0, c.tokens+c.tokens/64+16)
	for start := 1; start <= c.cfg.Limit; start += c.cfg.Page {
		want := min(c.cfg.Page, c.cfg.Limit-start+1)
		var answer Answer
		var err error
		if quotes, answer, err = c.quotes(ctx, c.listings(start, want), quotes); err != nil {
			return nil, err
		}
		if answer.Rows < want || answer.Status.Total > 0 && start+want > answer.Status.Total {
			break
		}
	}
	c.tokens = len(quotes)
	return c.batch(quotes), nil
}

// Quotes fetches some tokens by id, as one batch; at most 1,000 ids, which is
// what fits an address. Errors are as of Fetch.
func (c *Client) Quotes(ctx context.Context, ids []market.ID) (*market.Batch, error) {
	if len(ids) == 0 || len(ids) > 1000 {
		return nil, &source.Error{Kind: source.KindBadRequest, Detail: "quotes need 1 to 1000 ids"}
	}
	text := make([]byte, 0, 8*len(ids))
	for i, id := range ids {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendUint(text, uint64(id), 10)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parser.Begin()
	query := url.Values{"id": {string(text)}, "convert": {usdName}}
	quotes, _, err := c.quotes(ctx, call{"/v2/cryptocurrency/quotes/latest", query}, make([]market.Quote, 0, len(ids)))
	if err != nil {
		return nil, err
	}
	return c.batch(quotes), nil
}

func (c *Client) batch(quotes []market.Quote) *market.Batch {
	return &market.Batch{
		Source: c.cfg.Source, Simulated: c.cfg.Simulated,
		ReceivedAt: c.cfg.Now(), Cadence: c.cfg.Cadence, Quotes: quotes,
	}
}

func (c *Client) listings(start, limit int) call {
	query := url.Values{
		"start":   {strconv.Itoa(start)},
		"limit":   {strconv.Itoa(limit)},
		"convert": {usdName},
	}
	if c.cfg.Version == V1 {
		query.Set("aux", listingsAux)
	}
	return call{"/" + c.cfg.Version.String() + "/cryptocurrency/listings/latest", query}
}

// call is one request: a path under the base URL and its query.
type call struct {
	path  string
	query url.Values
}

// quotes makes one call and appends the quotes of its answer.
func (c *Client) quotes(ctx context.Context, what call, quotes []market.Quote) ([]market.Quote, Answer, error) {
	var answer Answer
	err := c.rotate(ctx, what, func(data []byte) *source.Error {
		out, a, err := c.parser.Parse(data, quotes, c.cfg.Now())
		if err != nil {
			return &source.Error{Kind: source.KindInvalidPayload, Detail: err.Error()}
		}
		if refused := refusal(&a); refused != nil {
			return refused
		}
		quotes, answer = out, a
		if c.cfg.Tap != nil {
			c.cfg.Tap(scrubBytes(data, c.cfg.Keys))
		}
		return nil
	})
	if err != nil {
		return nil, answer, err
	}
	if answer.Rejected+answer.Fields+answer.Clamped > 0 {
		c.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "provider rows rejected",
			slog.String("provider", c.cfg.Source.String()), slog.Int("rows", answer.Rows), slog.Int("rejected", answer.Rejected),
			slog.Int("fields", answer.Fields), slog.Int("clamped", answer.Clamped), slog.String("first", answer.Reason))
	}
	if answer.Status.Notice != "" {
		c.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "provider notice",
			slog.String("provider", c.cfg.Source.String()), slog.String("notice", scrub(answer.Status.Notice, c.cfg.Keys)))
	}
	return quotes, answer, nil
}

// refusal returns why an answer with status 200 is no success, or nil.
func refusal(a *Answer) *source.Error {
	switch {
	case a.Status.Code != 0:
		return &source.Error{
			Kind: source.Classify(http.StatusOK, a.Status.Code), Code: a.Status.Code, Detail: a.Status.Message,
		}
	case !a.HasStatus:
		return &source.Error{Kind: source.KindInvalidPayload, Detail: "the answer has no status"}
	case !a.HasData:
		return &source.Error{Kind: source.KindInvalidPayload, Detail: "the answer has no data"}
	}
	return nil
}

// rotate makes a call with one key after another, until one works or an error
// is not the key's. read sees the body of an answer with status 200.
func (c *Client) rotate(ctx context.Context, what call, read func([]byte) *source.Error) error {
	for {
		key, slot := c.ring.pick(c.cfg.Now())
		err := c.once(ctx, what, key, read)
		if err == nil {
			c.ring.good(slot)
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err.Detail = clip(scrub(err.Detail, c.cfg.Keys))
		if !c.ring.failed(slot, err, c.cfg.Now()) {
			return err
		}
		c.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "provider key rests",
			slog.String("provider", c.cfg.Source.String()), slog.Any("key", key), slog.String("reason", err.Kind.String()))
	}
}

// clip bounds a detail in bytes, dropping what does not print.
func clip(text string) string {
	return strings.Clone(string(Clean([]byte(text), maxDetail)))
}
