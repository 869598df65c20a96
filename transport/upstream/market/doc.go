// Package simulator is the embedded market: an imitation of the CoinMarketCap
// Pro API, served over a synthetic market or over a replayed recording.
//
// The synthetic market is a pure function of (seed, time). Every value is hash
// noise that can be evaluated at any instant without walking from a start, so
// two processes with the same seed tell the same story and a restart goes on
// along the same path. Caches only hold what could be evaluated again.
//
// The market moves in ticks. At a tick about two thirds of the coins get new
// values; the others keep those of their last one. Between ticks every answer
// is the same but for status.timestamp and status.elapsed.
//
// Rank is sloppy as CoinMarketCap's is: coins are ranked by the caps of the
// last full minute, so that caps do rise against rank here and there.
//
// Prices, caps and volumes have 16 or 17 significant digits, as the real API
// prints them; they are made as decimals, so that the answer's text and the
// quotes of Batch are equal to the last digit.
//
// What is not imitated: price history endpoints (1006 for every plan), cent
// accurate fiat rates (a fixed table), the 60 s cache of the real service (the
// tick takes its place) and real 7 and 30 day volumes (multiples of the 24 h
// volume, only for sorting and aux).
package simulator
