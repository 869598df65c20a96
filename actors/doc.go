// Package actors runs the market: fetchers bring batches, the supervisor makes
// ticks of them, shards and their token actors do the work, the journal writes
// it down. System is the only thing that the rest of the program sees; no
// protoactor type leaves this tree.
//
//	fetchactor ──batch──► marketactor ──one Run per shard──► shardactor ──inline──► tokenactor
//	                          ▲                                  │ last shard seals
//	                          └──────────── sealed ──────────────┼──► Publisher
//	                                                             └──► journalactor ──► Journal
//
// What waits where, and what happens at the limit:
//
//   - Batches wait in the supervisor's mailbox: of each polled provider the newest
//     (an older one is replaced and counted), of each replay one, whose feed waits
//     for the seal of its last one.
//   - A shard has at most one Run; a token actor has no queue at all.
//   - Ticks wait for the disk in the journal's mailbox, bounded in count and
//     bytes. When it is full the supervisor holds new plans until half of it is
//     free; Status says lagging meanwhile.
//
// Failures: a panic in a token concerns that token (package shardactor); a
// panic anywhere else drops the message that caused it and is reported by
// Status; nothing is ever stopped for failing.
package actors
