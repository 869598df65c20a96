// Package mailbox holds the two mailboxes of the house. Inline runs a token's
// actor on its shard's goroutine: a message is handled before Send returns.
// Lanes is a queue with three lanes (system, control, data), bounded in count
// and bytes, in which data never delays control and the newest of a kind may
// replace an older one. Pushing never blocks the sender in either of them.
package mailbox
