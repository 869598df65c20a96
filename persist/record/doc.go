// Package record holds the encodings of the store: how keys, ticks, history
// rows, window cells and meta records become bytes, and nothing about where the
// bytes are kept. Every value travels in an envelope with a version and a
// checksum that covers its key (see FORMAT.md of package persist). Decoders
// accept any bytes without panicking and never return a value that is only
// half there.
package record
