// Package tick makes ticks: it numbers them, judges whole polls, hands every
// quote to its token and seals the result into one immutable market.Tick.
//
// The work is split so that a host may run the shards side by side:
//
//	plan := engine.Poll(batch, now)            // one caller at a time
//	for each shard i: shard.Begin(plan, i), shard.Step(q) for plan.Quotes(i),
//	                  shard.Sweep(), parts[i] = shard.Finish()
//	tick := engine.Seal(plan, parts)           // when every part is there
//
// A plan must be sealed before the next one begins. The result does not depend
// on the order in which shards run, nor on their number. Machine is the same
// thing without a host: one caller, one shard after another; replays, tests and
// recovery use it.
//
// Time is a parameter everywhere. What time alone changes (freshness, frozen,
// retirement) happens in clock ticks at the instants that Deadline announces.
package tick
