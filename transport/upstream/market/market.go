package simulator

import (
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Market is one embedded market. Safe for concurrent use.
type Market struct {
	cfg       Config
	accounts  *accounts
	synthetic *synthetic // nil where a recording is served
	server    *fasthttp.Server

	mu       sync.Mutex
	recorded *table // of the newest batch of the feed
	requests uint64 // valid ones so far, for Faults
}

// New returns a market. The error names every bad member of cfg with the
// values it may have. Nothing is started and nothing listens yet.
func New(cfg Config) (*Market, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &Market{cfg: cfg, accounts: newAccounts(&cfg)}
	if cfg.Feed == nil {
		m.synthetic = newSynthetic(&cfg)
	}
	m.server = m.newServer()
	return m, nil
}

// Batch returns the market as of an instant without a detour through HTTP and
// JSON: quotes that are equal, to the last digit, to those that the answers
// hold. Within a tick (or until a recording goes on) batches share their quotes.
// It returns nil where a recording has nothing yet.
func (m *Market) Batch(now market.Time) *market.Batch {
	t := m.at(now)
	if t == nil {
		return nil
	}
	if t.batch != nil {
		return t.batch
	}
	return &market.Batch{
		Source: market.SourceMarket, Simulated: true, ReceivedAt: now, Cadence: m.cfg.Tick, Quotes: t.quotes,
	}
}

// at returns the market as of an instant; nil before the start of a recording.
func (m *Market) at(now market.Time) *table {
	if m.synthetic != nil {
		return m.synthetic.at(now)
	}
	b := m.cfg.Feed.At(now)
	if b == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.recorded == nil || m.recorded.batch != b {
		m.recorded = recordedTable(b)
	}
	return m.recorded
}

// recordedTable wraps a batch. What a quote does not hold is left out of the
// answers, or null where the real API always has the member.
func recordedTable(b *market.Batch) *table {
	t := &table{batch: b, time: b.ReceivedAt, quotes: b.Quotes, coins: make([]*coin, len(b.Quotes))}
	for i := range b.Quotes {
		q := &b.Quotes[i]
		c := &coin{id: q.ID, info: q.Info, added: "2013-04-28T00:00:00.000Z"}
		if c.info == nil {
			c.info = &market.Info{}
		}
		t.coins[i] = c
	}
	return t
}

// faulty decides whether a valid request gets an internal error.
func (m *Market) faulty() bool {
	if m.cfg.Faults <= 0 {
		return false
	}
	m.mu.Lock()
	m.requests++
	n := m.requests
	m.mu.Unlock()
	return unit(hash2(hash2(m.cfg.Seed, streamFault), n)) < m.cfg.Faults
}
