// Package journalactor is the single writer to the store. Ticks wait for it in
// a mailbox bounded in count and bytes; it appends each one, makes them durable
// together once per sync window, reserves seqs ahead of use and saves exports.
//
// The live stream never waits for the disk: while the disk is slow, ticks
// queue; when the queue is full, Ledger.Room says so and the supervisor holds
// new polls until half of it is free. An error of the store is handled here and
// nowhere else: it is logged (at first once a second) and counted, the ledger
// says degraded, and the stream goes on. A tick that could not be appended is
// lost to the raw history; with the next one that is not, an export is asked for,
// so that a restart knows what the lost ticks changed. None sooner: while the disk
// is full, all are lost, and an export would be too.
package journalactor
