// Package recording reads recorded provider data for a replay: CoinMarketCap
// listings answers (one document, or one a line) and series of polls, one a
// line, as coinlore and CoinMarketCap top-N recorders write them; plain or
// gzipped.
//
// What Writer writes (`velocimeter record`) is a series too, one poll a line, with the
// answers exactly as the provider gave them, so with every digit, id and null:
//
//	{"received_at":"2026-11-20T18:00:00.123Z","source":"coinmarketcap","cadence_ms":60000,"simulated":true,"answers":[{…},{…}]}
//
// received_at is when the poll was complete; source is coinmarketcap or market;
// cadence_ms is how often values are new (absent: the median gap between polls);
// simulated is true for a made market, else absent; answers are the listings
// answers of the poll's pages, in order. A gzipped file has one member a poll. Of
// such a file alone the end may be torn, within the last line or member: that
// answer is left out, and Torn says so.
//
// Open reads the whole file once, strictly: a file with anything wrong is
// refused there, naming file, line and place, before anything is made of it. Values
// come out as they were recorded, poisoned polls included. A poll whose time is
// not after the one before is left out and counted (Skipped): time in a replay
// never goes back. Of rows of one token in one poll the first stays.
//
// Files are streamed: memory holds one line (at most 64 MiB, as much as a listings
// document spread over lines) and eight bytes a poll, never the text.
package recording
