package client_test

import (
	"context"
	"fmt"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/client"
)

// What a connection brings, here without one.
func ExampleDecoder() {
	d := client.NewDecoder(client.Limits{})
	for _, message := range []string{
		`{"type":"hello","protocol":1,"epoch":"k3","seq":812,"server_time":1763661600123,"heartbeat_ms":15000,"source":"market","simulated":true,"limits":{},"schema_url":"/api/v1/schema"}`,
		`{"type":"subscribed","id":"1","sub":7,"ch":12,"tokens":1,"unknown":[],"ambiguous":[],"recovered":false,"effective":{"fields":["price"],"encoding":"json","shape":"array","digits":"full"}}`,
		`{"type":"snapshot","ch":12,"seq":812,"source":"market","source_time":null,"received_at":null,"simulated":true,"rows":[[1,246290604621825,64010.2,"BTC","Bitcoin","bitcoin"]]}`,
		`{"type":"delta","ch":12,"seq":813,"prev":812,"source":"market","source_time":null,"received_at":null,"simulated":true,"rows":[[1,1,64010.35]],"removed":[]}`,
		`{"type":"heartbeat","ch":12,"seq":829}`,
	} {
		ev, err := d.Apply([]byte(message), false)
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, change := range ev.Data.Changes {
			row := ev.Row(change)
			fmt.Println(ev.Kind, ev.Data.Seq, row.Symbol(), row.Value(market.FieldPrice))
		}
	}
	fmt.Println("position", d.Channel(12).Position())
	// Output:
	// snapshot 812 BTC 64010.2
	// delta 813 BTC 64010.35
	// position 829
}

// A program that follows two tokens through reconnects.
func ExampleClient() {
	follow := func(ctx context.Context) error {
		c, err := client.Dial(ctx, client.Options{URL: "ws://127.0.0.1:8080/api/v1/stream", Reconnect: true})
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Subscribe(ctx, client.Subscription{Symbols: []string{"BTC", "ETH"}, View: "quote", Shape: "array"}); err != nil {
			return err
		}
		for {
			ev, err := c.Next(ctx)
			if err != nil {
				return err
			}
			switch ev.Kind {
			case client.KindDisconnected:
				fmt.Println("back in", ev.Wait, "after", ev.Err)
			case client.KindSubscribed:
				fmt.Println("resumed:", ev.Ack.Recovered)
			case client.KindSnapshot, client.KindDelta:
				for _, change := range ev.Data.Changes {
					fmt.Println(ev.Row(change).Symbol(), ev.Row(change).Value(market.FieldPrice))
				}
			default: // heartbeats, answers
			}
		}
	}
	_ = follow
}
