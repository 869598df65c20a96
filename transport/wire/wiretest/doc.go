// Package wiretest is the kit that every test of the stream shares: a market
// that ticks at random, and a client replica that applies messages by the rules
// of PROTOCOL.md and nothing else and is then compared with the board.
package wiretest
