// Package fanout turns sealed ticks into what each stream connection is sent.
//
// A Hub takes ticks from the engine without ever blocking it. Each tick is a
// round of the market, and a slower pace has a round where its period is over. A
// page encodes the rows of one form (format, rate, deadband) once a round, for
// everybody. A subscription stands on a channel: a selection of tokens in one
// form. A chained channel makes one message of the page's rows, framed once, and
// the same bytes go to every member; a private one, a token list that only one
// connection has, gets its rows copied from the page.
//
// Sessions are shared out over lanes, one for each processor. All lanes go
// through a round before the next begins, so that who keeps up is always in step
// with its page. Nothing is queued per connection: one that cannot take a write
// keeps its position and is later sent the fields that are newer, in absolute
// values; one that often cannot gets a slower rate.
//
// The package knows no socket and no goroutine of a connection. It hands
// finished bytes to a Link and learns through Session.Written that they are
// gone, so goroutines per connection and event loops fit equally.
//
// Where a lane has an Outbox, the writes of a round are gathered in it and made
// together, before the round ends. Positions move when a link has taken the bytes,
// as ever; that a peer has no room is known one write later.
//
// Lock order: Session.mu, then table.mu, then page.mu; channel.mu is taken after
// Session.mu and page.mu has been released, wholes.mu last. A lane's mutex is
// never held while another is taken.
package fanout
