package tick

import "github.com/velocimeter/velocimeter/engine/market"

// Machine runs an engine and its shards one after another, without a host.
type Machine struct {
	Engine *Engine
	Shards []*Shard
	parts  []Part
}

// NewMachine returns a machine without tokens.
func NewMachine(c Config) *Machine {
	c.Shards = max(c.Shards, 1)
	m := &Machine{Engine: New(c), parts: make([]Part, c.Shards)}
	for range c.Shards {
		m.Shards = append(m.Shards, NewShard(c.Quality))
	}
	return m
}

// Poll runs the clock ticks that fall before now and then the answer's own
// tick, calling emit for each of them in order.
func (m *Machine) Poll(b *market.Batch, now market.Time, emit func(*market.Tick)) {
	m.Advance(now, emit)
	emit(m.run(m.Engine.Poll(b, now)))
}

// Advance runs every clock tick that is due up to now.
func (m *Machine) Advance(now market.Time, emit func(*market.Tick)) {
	for at := m.Engine.Deadline(); at != 0 && at <= now; {
		if t := m.run(m.Engine.Clock(at)); t != nil {
			emit(t)
		}
		next := m.Engine.Deadline()
		if next != 0 && next <= at {
			return // BUG guard: a deadline that does not move would spin for ever
		}
		at = next
	}
}

func (m *Machine) run(p *Plan) *market.Tick {
	for i, s := range m.Shards {
		s.Begin(p, i)
		for _, q := range p.Quotes(i) {
			s.Step(q)
		}
		s.Sweep()
		m.parts[i] = s.Finish()
	}
	return m.Engine.Seal(p, m.parts)
}

// Export returns the whole machine as of the newest tick.
func (m *Machine) Export() *market.Export {
	e := &market.Export{Seq: m.Engine.last.Seq, Time: m.Engine.last.Now, Engine: m.Engine.AppendState(nil)}
	for _, s := range m.Shards {
		s.Export(e)
	}
	return e
}

// Replay applies a journaled tick and returns how many rows came out otherwise.
func (m *Machine) Replay(jt *market.JournalTick) (diverged int) {
	for i, s := range m.Shards {
		diverged += s.Replay(jt, func(id market.ID) bool { return market.ShardOf(id, len(m.Shards)) == i })
	}
	m.Engine.Replay(jt)
	return diverged
}

// Restore takes over one stored token.
func (m *Machine) Restore(ts market.TokenState, cells []market.Cell) error {
	return m.Shards[market.ShardOf(ts.ID, len(m.Shards))].Restore(ts, cells)
}

// Resume makes the board of what was restored and replayed, and continues with nextSeq.
func (m *Machine) Resume(nextSeq uint64) {
	for i, s := range m.Shards {
		s.refresh(&m.Engine.last)
		m.parts[i] = s.Finish()
	}
	m.Engine.Resume(nextSeq, m.parts)
}
