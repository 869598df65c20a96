// Package recording reads recorded provider data for a replay: CoinMarketCap
// listings answers (one document, or one a line) and series of polls, one a
// line, as coinlore and CoinMarketCap top-N recorders write them; plain or
// gzipped.
//
// Open reads the whole file once, strictly: a file with anything wrong is
// refused there, naming file, line and place, before anything is made of it. Values
// come out as they were recorded, poisoned polls included. A poll whose time is
// not after the one before is left out and counted (Skipped): time in a replay
// never goes back. Of rows of one token in one poll the first stays.
//
// Files are streamed: memory holds one line (at most 16 MiB; a listings document
// spread over lines at most 64 MiB) and eight bytes a poll, never the text.
package recording
