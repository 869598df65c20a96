// Package loop serves many byte streams with few goroutines: bytes in, bytes
// out and one timer for each connection. It knows no protocol; WebSocket and
// server-sent events are handlers of it.
//
// On Linux a plain TCP connection is a descriptor of our own in an epoll set,
// one set and one goroutine per processor. An idle connection has no goroutine
// and no buffer. Writes happen in the goroutine that asks for them and never
// block; what the kernel does not take is kept, and the loop writes it when
// there is room. A connection that encrypts is served likewise where the loop may
// go below crypto/tls (a connection there has Swap). Elsewhere two goroutines serve
// a connection with the same behaviour.
//
// A descriptor is closed by its loop alone, and events carry a generation: an
// event of a connection that is gone reaches no other that got its number.
//
// A Ring writes for many connections at once. Such a write is staged, and then
// made when the fan-out says so; until then the descriptor is neither written to
// nor closed by anybody else, though the connection may be gone.
//
// Lock order: Conn.mu, then the wheel's mutex. Handlers are called with neither
// held, except for Border.
package loop
