package main

import (
	"encoding/json"
	"math"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist"
)

// found is the answer of the admin listener's /recovery: what this start found in
// the store, and what the newest mending of it did.
func (h *house) found() ([]byte, error) {
	rec := h.store.Recovery()
	type seqs struct {
		First uint64 `json:"first"`
		Last  uint64 `json:"last"`
	}
	type damage struct {
		Key  string `json:"key"`
		What string `json:"what"`
	}
	type rebuilt struct {
		Engine  bool   `json:"engine"`
		Tokens  int    `json:"tokens"`
		Waiting int    `json:"waiting"`
		FromSeq uint64 `json:"from_seq"`
	}
	answer := struct {
		Lineage    string   `json:"lineage"`
		Epoch      string   `json:"epoch"`
		Clean      bool     `json:"clean"`
		StateSeq   uint64   `json:"state_seq"`
		DurableSeq uint64   `json:"durable_seq"`
		NextSeq    uint64   `json:"next_seq"`
		LostSeqs   []seqs   `json:"lost_seqs"`
		Damage     []damage `json:"damage"`
		Rebuilt    *rebuilt `json:"rebuilt"`
		Mended     *mending `json:"mended"`
	}{
		Lineage: h.feed.lineage, Epoch: rec.Epoch, Clean: rec.Clean, StateSeq: rec.StateSeq, DurableSeq: rec.DurableSeq, NextSeq: rec.NextSeq,
		LostSeqs: []seqs{}, Damage: []damage{}, Mended: mendingOf(rec.Mended),
	}
	for _, r := range rec.Lost {
		answer.LostSeqs = append(answer.LostSeqs, seqs{r.From + 1, r.To})
	}
	for _, d := range rec.Damage {
		answer.Damage = append(answer.Damage, damage(d))
	}
	if r := rec.Rebuilt; r != nil {
		answer.Rebuilt = &rebuilt{r.Engine, r.Tokens, r.Waiting, r.From}
	}
	return json.Marshal(answer)
}

// mending is a persist.Mended with instants as people read them.
type mending struct {
	*persist.Mended
	Lost []loss `json:"lost"`
}

type loss struct {
	Kind       string  `json:"kind"`
	FirstToken uint32  `json:"first_token"`
	LastToken  uint32  `json:"last_token"`
	From       *string `json:"from"` // null: from the beginning
	To         *string `json:"to"`   // null: up to when it was mended
}

func mendingOf(m *persist.Mended) *mending {
	if m == nil {
		return nil
	}
	instant := func(t market.Time) *string {
		if t <= 0 || t == math.MaxInt64 {
			return nil
		}
		text := t.Std().UTC().Format(time.RFC3339)
		return &text
	}
	shown := &mending{Mended: m, Lost: []loss{}}
	for _, l := range m.Lost {
		shown.Lost = append(shown.Lost, loss{l.Kind, uint32(l.FirstToken), uint32(l.LastToken), instant(l.From), instant(l.To)})
	}
	return shown
}

func lostSeqs(lost []persist.LostRange) (n uint64) {
	for _, r := range lost {
		n += r.To - r.From
	}
	return n
}
