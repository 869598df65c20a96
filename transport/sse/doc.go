// Package sse serves the stream as server-sent events: one subscription of a
// connection, named by its URL, with the JSON messages of the stream as data.
// PROTOCOL.md in transport/wire is the normative text. What is sent is decided
// by transport/fanout, the bytes go through the same event loops as WebSocket's.
//
// A browser comes back by itself, but gives up for good at any answer other than
// a stream. Whoever returns with Last-Event-ID while the server stops, starts or
// is full therefore gets a stream of one event, drain, and tries again later.
package sse
