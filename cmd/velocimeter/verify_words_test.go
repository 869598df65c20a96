package main

import (
	"math"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/persist"
)

// A verification says in words what a mending left out.
func TestVerifyTellsLosses(t *testing.T) {
	var b strings.Builder
	err := writeReport(&b, &persist.Report{Mended: &persist.Mended{
		Folder:   "live.1.damaged",
		LostSeqs: []persist.SeqRange{{First: 3, Last: 9}},
		Lost:     []persist.Loss{{Kind: "tick", LastToken: math.MaxUint32, From: 1_760_000_000_000, To: math.MaxInt64}},
	}})
	text := b.String()
	for _, want := range []string{"live.1.damaged", "lost ticks: seq 3…9\n", "may be lost: tick of tokens all, from 2025-10-09T08:53:20Z to the end\n", "sound"} {
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("%v, no %q in\n%s", err, want, text)
		}
	}
}
