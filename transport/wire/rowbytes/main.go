// Command rowbytes tells how many bytes a changed row takes in every encoding of
// the stream. It runs the simulated market through the engine with a fixed seed
// and clock, and encodes the ticks of view quote as the fan-out does. Nothing of
// it depends on the machine.
//
// Heads, with the provenance, are counted apart; the comma between JSON rows is
// the row's. The floor is what a row's changes take as plain numbers: one byte of
// mask and, for every changed number, the zigzag varint of its difference; no ids,
// as if both sides walked the market in one order.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/tick"
	simulator "github.com/velocimeter/velocimeter/transport/upstream/market"
)

// begin is the first tick's time: 2025-11-20 12:00 UTC.
const begin = market.Time(1_763_640_000_000)

func main() {
	tokens := flag.Int("tokens", 5000, "tokens of the market")
	ticks := flag.Int("ticks", 30, "measured ticks of a second, after five others")
	seed := flag.Uint64("seed", 42, "seed of the market")
	lists := flag.Int("lists", 200, "lists of 20 random tokens")
	flag.Parse()
	now := begin
	sim, err := simulator.New(simulator.Config{Seed: *seed, Tokens: *tokens, Now: func() market.Time { return now }})
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "rowbytes:", err)
		os.Exit(1) //nolint:forbidigo // main has no other way to fail
	}
	m := tick.NewMachine(tick.Config{Epoch: "bench", Shards: 4, NextSeq: 1})
	meters := newMeters(*lists)
	for i := range *ticks + 5 {
		now = begin.Add(market.Second * market.Millis(i))
		batch := *sim.Batch(now)
		batch.Cadence = 6 * market.Second
		old := m.Engine.Board()
		m.Poll(&batch, now, func(t *market.Tick) {
			if i >= 5 {
				for _, meter := range meters {
					meter.tick(t, old)
				}
			}
			old = t.Board
		})
	}
	report(*tokens, *seed, *ticks, meters)
}

func report(tokens int, seed uint64, ticks int, meters []*meter) {
	say("view quote, simulated market of %d tokens, seed %d, %d ticks of 1 s, %.0f changed rows a tick\n\n", tokens, seed, ticks, float64(meters[0].rows)/float64(ticks))
	say("| audience | encoding | rows a message | B/row | heads, B/row more | deflated with heads, B/row | floor, B/row | × floor |\n")
	say("|---|---|---|---|---|---|---|---|\n")
	for _, m := range meters {
		rows := float64(max(m.rows, 1))
		say("| %s | %s | %.1f | %.2f | %.2f | %.2f | %.2f | %.2f |\n", m.audience, m.name, rows/float64(max(m.messages, 1)),
			float64(m.body)/rows, float64(m.whole-m.body)/rows, float64(m.deflated)/rows, float64(m.floor)/rows, float64(m.body)/float64(max(m.floor, 1)))
	}
}

func say(format string, args ...any) { _, _ = fmt.Fprintf(os.Stdout, format, args...) }
