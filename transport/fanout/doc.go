// Package fanout turns sealed ticks into what each stream connection is sent.
//
// A Hub takes ticks from the engine without ever blocking it. A subscription
// stands on a channel: a selection of tokens in one format. Channels with an
// audience are shared: their message of a tick is encoded and framed once and the
// same bytes go to every connection. Other subscriptions get messages assembled
// from per-token fragments that are encoded once. Nothing is queued per
// connection: one that cannot take a write keeps its position and is later sent
// the fields that are newer.
//
// The package knows no socket and no goroutine of a connection. It hands
// finished bytes to a Link and learns through Session.Written that they are
// gone, so goroutines per connection and event loops fit equally.
//
// Lock order: Session.mu, then table.mu or channel.mu, then fragments.mu. The
// mutex of Hub.sessions is never held while another is taken.
package fanout
