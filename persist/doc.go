// Package persist remembers: a journal of ticks, history at every granularity
// and the engine's state, in one pebble store per lineage. What is visible is
// durable, a seq is never used twice, and a record that does not check out is
// reported, never skipped in silence. FORMAT.md describes the bytes, package
// record encodes them.
package persist
