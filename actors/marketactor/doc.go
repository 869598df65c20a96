// Package marketactor hosts the market's supervisor. It owns the tick.Engine
// between ticks, makes one plan at a time and sends one message per shard. The
// last shard to report seals the tick on its own goroutine, publishes it and
// gives it to the journal; then the supervisor begins the next plan.
//
// Batches wait in the supervisor's mailbox and nowhere else: the newest of each
// polled provider (an older one is replaced and counted), and those of replays,
// which are never dropped because each feed waits for the seal of its last one.
// The mailbox is held while a tick is in the making and while the journal has
// no room or no reserved seq.
//
// Before a batch of engine time T, every clock tick that is due up to T runs,
// in order. Live, a timer runs them also when no batch comes, at most one per
// TickMin, and a pause of the whole process is made up for by one of them, not
// by all. In a replay they run at exactly the engine's deadlines, so the same
// recording gives the same ticks.
//
// Merging: batches of different providers that arrive within TickMin are to
// share a tick. With one provider there is nothing to merge (two polls of one
// provider never share a tick); the place for it is Actor.poll, which would
// plan several waiting batches together.
package marketactor
