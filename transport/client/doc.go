// Package client is the Go client of velocimeter's stream, for trading programs
// and load generators. It is written from transport/wire/PROTOCOL.md alone and
// shares no code with the server's encoder.
//
// A Client is a connection and those that follow it: it subscribes, applies what
// comes and hands out events with Next, answers pings, notices a silent server,
// comes back by the table of close codes and resumes every subscription from the
// position of its channel. A Decoder is the part without a network: it applies
// whole messages of one connection, of either encoding, and holds the rows; feed
// it from any WebSocket library.
//
//	c, err := client.Dial(ctx, client.Options{URL: "ws://127.0.0.1:8080/api/v1/stream", Encoding: wire.EncodingBinary, Reconnect: true})
//	sub, err := c.Subscribe(ctx, client.Subscription{Symbols: []string{"BTC"}})
//	for {
//		ev, err := c.Next(ctx)
//		...
//		for _, change := range ev.Data.Changes {
//			row := ev.Row(change)
//			fmt.Println(row.Symbol(), row.Value(market.FieldPrice))
//		}
//	}
//
// One goroutine calls Next and reads channels and rows: they change with each
// call, and what an event points to is good until the next one. Everything else
// may be called from any goroutine, that one included: answers do not wait for
// Next, but their events come with it.
//
// A program that is slower than the market loses ticks, not changes: what waits
// for Next is bounded in bytes, the client then stops reading, and the server
// sends the newest values when it reads again.
//
// Numbers are decimals, as published: never binary floating point.
package client
