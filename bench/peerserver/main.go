// Command peerserver speaks the protocol of the peers' measurement on our own
// event loops, so that one generator compares transport/fanout/loop with other servers
// on the same bytes.
//
// Subscribers connect to /ws and send {"op":"subscribe","topics":["t00012",..]};
// each is answered by one text frame. The generator drives the publisher over
// /ctl with "T <10 digits> <19 digits> <first> <count>". Every tick makes one
// frame of 204 bytes for each topic, which all its subscribers share; a
// connection gets one write a tick, and ticks that wait already share that write.
//
// It is a measuring rig and trusts its peer: it listens on loopback only.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"

	"github.com/velocimeter/velocimeter/transport/fanout/loop"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9000", "loopback address to listen on")
	goroutines := flag.Bool("goroutines", false, "serve by goroutines instead of event loops")
	flag.Parse()
	if err := serve(*listen, *goroutines); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "peerserver:", err)
		os.Exit(1) //nolint:forbidigo // main has no other way to fail
	}
}

// serve accepts connections until the listener fails.
func serve(addr string, goroutines bool) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("cannot listen on %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("cannot listen on %q: %w", addr, errors.New("not a loopback address"))
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("cannot listen on %q: %w", addr, err)
	}
	s := &server{group: loop.NewGroup(loop.Config{Goroutines: goroutines})}
	for {
		nc, err := ln.Accept()
		if err != nil {
			return fmt.Errorf("cannot accept on %q: %w", addr, err)
		}
		go s.open(nc)
	}
}
