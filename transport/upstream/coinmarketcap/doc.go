// Package coinmarketcap speaks the CoinMarketCap Pro API: a client that polls
// listings, and a parser of the answers that recordings share.
//
// The provider is treated as hostile. An answer is taken or refused whole:
// anything that is not strictly JSON, repeats a member that is read, or has
// more than one bad row in five is source.KindInvalidPayload and the state
// before it stands. A number that cannot be read (wrong type, no number, beyond
// 1e±100) costs its field, which then counts as missing; an id, symbol, price
// or USD quote that cannot be read costs its row. Both make the row a bad one.
//
// Several keys are used in order: one that is refused or out of credits rests
// (an hour, until the next day, until the next month) and the next one takes
// over within the same fetch. A fetch fails only when every key rests.
package coinmarketcap
