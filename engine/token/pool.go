package token

import "github.com/velocimeter/velocimeter/engine/market"

// poolSize is how many snapshots are allocated at once. One that is still in
// use keeps the others in memory, so this also bounds what a token that rarely
// changes may hold: 4 × 0.7 KB.
const poolSize = 4

// Pool makes the snapshots of the tokens that share it, a few to an allocation:
// most tokens change together, and are replaced together. The zero value is
// ready; it is not safe for concurrent use.
type Pool struct{ free []market.Snapshot }

// next returns a zero snapshot; without a pool, one of its own.
func (p *Pool) next() *market.Snapshot {
	if p == nil {
		return new(market.Snapshot)
	}
	if len(p.free) == 0 {
		p.free = make([]market.Snapshot, poolSize)
	}
	s := &p.free[0]
	p.free = p.free[1:]
	return s
}

// Share makes the token take its snapshots from p.
func (t *Token) Share(p *Pool) { t.pool = p }
