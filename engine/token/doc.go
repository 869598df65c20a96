// Package token is one token's state machine. Step takes one quote and returns
// the next published snapshot with the set of fields that changed; Clock does
// what time alone does. Everything a token is told besides the quote is in
// market.Env, so the same quotes and the same Envs give the same snapshots,
// in a replay and after a restart too.
//
// A quote passes through these stations, in this order:
//
//	time     order by source time: late quotes are dropped, a repeated one is a
//	         duplicate, a corrected one (same time, other values) replaces the
//	         newest sample, a time in the future becomes the time of receipt
//	inputs   a missing member keeps its value, a null one ends it, a negative
//	         one is no value
//	velocity volume / cap, with the method or the reason
//	judge    the step rule per input and the level rule on volume/cap decide
//	         whether the sample may enter the window (package quality)
//	window   accepted samples, in order (package window)
//	derive   trends, VWAP, volatility, supply and cap checks, flags, freshness
//	publish  a new immutable Snapshot, with versions of the changed fields
//
// A Token costs one allocation per quote, the Snapshot. Its rings, its held
// samples and its histories grow with what it has to remember: a stablecoin
// that never jumps never allocates a hold.
package token
