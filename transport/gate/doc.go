// Package gate is the strict HTTP front door shared by every listener and
// transport: it owns the fasthttp server, its limits and timeouts, refuses
// ambiguous or hostile requests before routing, recovers panics, names each
// request, answers errors as problem+json (RFC 9457) and routes what is left.
//
// A transport plugs in as a list of Routes. Handlers run on fasthttp's
// goroutine; they may hijack the connection (KeepHijackedConns is on: whoever
// hijacks owns the connection, its deadlines and its end).
package gate
