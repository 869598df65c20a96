//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"
)

// universe returns the ids of the tokens that the server has, with one
// connection of its own.
func (l *load) universe() ([]uint32, error) {
	nc, err := net.DialTimeout("tcp", l.cfg.addr, 5*time.Second)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %q: %w", l.cfg.addr, err)
	}
	defer nc.Close() //nolint:errcheck // nothing is lost
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	if l.cfg.tls {
		nc = tls.Client(nc, l.tlsConfig())
	}
	one := &load{host: l.host, cfg: &settings{proto: "json"}}
	if _, err := nc.Write(one.handshake()); err != nil {
		return nil, fmt.Errorf("cannot upgrade: %w", err)
	}
	if _, err := nc.Write(maskedFrame(1, []byte(`{"op":"subscribe","all":true,"fields":["rank"]}`))); err != nil {
		return nil, fmt.Errorf("cannot subscribe: %w", err)
	}
	return readUniverse(nc)
}

func readUniverse(r io.Reader) (ids []uint32, err error) {
	var p []byte
	buf := make([]byte, 64<<10)
	for upgraded := false; ; {
		n, err := r.Read(buf)
		if err != nil {
			return nil, fmt.Errorf("cannot read the first snapshot: %w", err)
		}
		p = append(p, buf[:n]...)
		if i := bytes.Index(p, []byte("\r\n\r\n")); !upgraded && i >= 0 {
			if !bytes.HasPrefix(p, []byte("HTTP/1.1 101 ")) {
				return nil, fmt.Errorf("cannot upgrade: %q", p[:min(i, 200)])
			}
			upgraded, p = true, p[i+4:]
		}
		for upgraded {
			_, body, size := serverFrame(p)
			if size == 0 {
				break
			}
			p = p[size:]
			h, ok := jsonHead(body)
			if !ok || !h.snapshot {
				continue
			}
			ids = appendIDs(ids, body)
			if !h.more {
				slices.Sort(ids)
				if len(ids) == 0 {
					return nil, errors.New("the market has no tokens")
				}
				return ids, nil
			}
		}
	}
}

func appendIDs(ids []uint32, snapshot []byte) []uint32 {
	const key = `{"id":`
	for {
		i := bytes.Index(snapshot, []byte(key))
		if i < 0 {
			return ids
		}
		snapshot = snapshot[i:]
		ids = append(ids, uint32(number(snapshot, key)))
		snapshot = snapshot[len(key):]
	}
}

// complain shows an error message of the server, the first ones only.
func (l *load) complain(p []byte) {
	if l.received.bad < 4 {
		_, _ = fmt.Fprintf(os.Stderr, "streamload: %.300s\n", p)
	}
}
