// Package integrity checks the running program against its own store, now and
// then and at a small share of one processor: every record is read and what was
// derived is computed again, and of some tokens a pass (all of them in the end)
// everything that is served is computed again from the stored state and quotes.
package integrity
