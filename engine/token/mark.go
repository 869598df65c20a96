package token

import (
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/engine/window"
)

// Mark holds what a Step may change. It is large; keep one and reuse it.
type Mark struct {
	core   core
	rings  [quality.NumInputs]quality.StepMark
	held   [maxHeld]sample
	supply quality.SupplyMark
	win    window.Mark
}

// Save notes the token's state before a Step.
func (t *Token) Save(m *Mark) {
	m.core = t.core
	for i := range t.steps {
		t.steps[i].SaveRing(&m.rings[i])
	}
	copy(m.held[:], t.held)
	t.supply.Save(&m.supply)
	t.win.Save(&m.win)
}

// Restore puts the token back exactly as it was at the last Save into m, which
// must be its newest. A Step that panicked half way is undone too. At most one
// Step, with any number of Clocks, may have come in between.
func (t *Token) Restore(m *Mark) {
	t.core = m.core
	t.win.Restore(&m.win)
	t.supply.Restore(&m.supply)
	copy(t.held, m.held[:])
	for i := range t.steps {
		t.steps[i].RestoreRing(&m.rings[i])
	}
}
