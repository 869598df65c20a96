// Package fetchactor brings batches to the supervisor: one actor per provider.
// The fetching blocks, so it runs on a goroutine that the actor owns: started
// with the actor, cancelled when it stops.
//
// A polled provider is asked when its schedule says so; a batch that the
// supervisor has not taken yet is replaced by the next one. A feed (a replay)
// hands over one batch after another as fast as they are sealed: never more
// than one waits, and none is dropped.
package fetchactor
