package rest

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// pastBoard is the market, or one token, of an instant.
type pastBoard struct {
	at      market.Time
	epoch   string
	page    *market.PastMarket // without tokens
	orders  *orders
	coarser map[market.ID]market.Granularity // of tokens whose granularity is not the page's
	built   time.Time
}

// newPastBoard sorts the tokens in, with the names of the present market where
// history does not know them.
func newPastBoard(now *market.Board, at market.Time, page *market.PastMarket) *pastBoard {
	p := &pastBoard{at: at, epoch: now.Epoch, page: page, built: time.Now()}
	b := &market.Board{Epoch: now.Epoch, Source: now.Source, Simulated: now.Simulated}
	tokens := make([]*market.Snapshot, len(page.Tokens))
	index := make(map[market.ID]int32, len(page.Tokens))
	for i, t := range page.Tokens {
		if t.Snap.Info == nil {
			if s := now.Token(t.Snap.ID); s != nil {
				t.Snap.Info = s.Info
			}
		}
		if t.Granularity != page.Granularity {
			if p.coarser == nil {
				p.coarser = map[market.ID]market.Granularity{}
			}
			p.coarser[t.Snap.ID] = t.Granularity
		}
		tokens[i], index[t.Snap.ID] = t.Snap, int32(i)
	}
	page.Tokens = nil
	b.Shards, b.Index = [][]*market.Snapshot{tokens}, []map[market.ID]int32{index}
	p.orders = &orders{board: b}
	return p
}

func (p *pastBoard) grain(id market.ID) market.Granularity {
	if g, ok := p.coarser[id]; ok {
		return g
	}
	return p.page.Granularity
}

// appendHead begins the envelope; start is where what is about now ends.
func (p *pastBoard) appendHead(dst []byte, m *moment) (_ []byte, start int) {
	dst = appendInstant(append(dst, `{"status":"success","timestamp":`...), m.now)
	start = len(dst)
	dst = appendName(append(dst, `,"meta":{"source":`...), m.board.Source.String())
	dst = strconv.AppendBool(append(dst, `,"simulated":`...), m.board.Simulated)
	dst = appendString(append(dst, `,"epoch":`...), m.board.Epoch)
	dst = append(dst, `,"seq":`...)
	if p.page.Seq == 0 {
		dst = append(dst, "null"...)
	} else {
		dst = strconv.AppendUint(dst, p.page.Seq, 10)
	}
	dst = appendInstant(append(dst, `,"at":`...), p.at)
	dst = append(dst, `,"granularity":`...)
	if p.page.AsOf == 0 {
		dst = append(dst, "null"...)
	} else {
		dst = appendName(dst, p.page.Granularity.String())
	}
	dst = appendTime(append(dst, `,"as_of":`...), p.page.AsOf)
	return append(dst, `},"data":`...), start
}

// appendToken appends the token object: what is kept of it, and how finely.
func (p *pastBoard) appendToken(dst []byte, s *market.Snapshot, sel selection) []byte {
	g := p.grain(s.ID)
	dst = appendToken(dst, s, sel&keptSelection(g))
	dst = appendName(append(dst[:len(dst)-1], `,"granularity":`...), g.String())
	return append(dst, '}')
}

// Limits of the markets that are kept in memory, so that the pages of a list do
// not read the same again and again.
const (
	thenBytes      = 128 << 20
	thenBoards     = 64
	thenLife       = 30 * time.Second
	thenTokenBytes = 1 << 10 // of a token, with its share of the sorted lists
	thenBoardBytes = 4 << 10
)

func (p *pastBoard) size() int {
	return thenBoardBytes + thenTokenBytes*len(p.orders.board.Shards[0])
}

// pastBoards are the markets of the past that were read lately, the latest used
// first. Bounded in bytes and time.
type pastBoards struct {
	mu     sync.Mutex
	boards []*pastBoard
}

// find returns a market that was read lately.
func (c *pastBoards) find(epoch string, at market.Time) *pastBoard {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.boards = slices.DeleteFunc(c.boards, func(p *pastBoard) bool { return now.Sub(p.built) > thenLife })
	i := slices.IndexFunc(c.boards, func(p *pastBoard) bool { return p.at == at && p.epoch == epoch })
	if i < 0 {
		return nil
	}
	p := c.boards[i]
	copy(c.boards[1:i+1], c.boards[:i]) // the latest used first
	c.boards[0] = p
	return p
}

// keep takes a market in and drops the ones that were not used for longest until
// the rest fits.
func (c *pastBoards) keep(p *pastBoard) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.size() > thenBytes || slices.ContainsFunc(c.boards, func(q *pastBoard) bool { return q.at == p.at && q.epoch == p.epoch }) {
		return
	}
	c.boards = slices.Insert(c.boards, 0, p)
	sum := 0
	for i, q := range c.boards {
		if sum += q.size(); sum > thenBytes || i == thenBoards {
			clear(c.boards[i:])
			c.boards = c.boards[:i]
			return
		}
	}
}
