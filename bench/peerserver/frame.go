package main

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // RFC 6455 asks for it
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// Opcodes of RFC 6455.
const (
	opText  = 1
	opClose = 8
)

// maxHead bounds the handshake.
const maxHead = 4 << 10

// handshake reads the upgrade and answers it. It returns the path asked for and
// the bytes that came early.
func handshake(nc net.Conn) (path string, early []byte, err error) {
	_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
	var buf [maxHead]byte
	n, end := 0, -1
	for end < 0 {
		if n == len(buf) {
			return "", nil, errors.New("handshake is too long")
		}
		k, err := nc.Read(buf[n:])
		if err != nil {
			return "", nil, fmt.Errorf("cannot read handshake: %w", err)
		}
		n += k
		end = bytes.Index(buf[:n], []byte("\r\n\r\n"))
	}
	key := ""
	for i, line := range strings.Split(string(buf[:end]), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if fields := strings.Fields(line); i == 0 && len(fields) == 3 {
			path = fields[1]
		} else if strings.EqualFold(name, "Sec-WebSocket-Key") {
			key = strings.TrimSpace(value)
		}
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // likewise
	_, err = nc.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n"))
	if err != nil {
		return "", nil, fmt.Errorf("cannot answer handshake: %w", err)
	}
	_ = nc.SetDeadline(time.Time{})
	return path, bytes.Clone(buf[end+4 : n]), nil
}

// clientFrame takes one masked frame off p and unmasks it in place; n is its
// length, 0 where it is incomplete.
func clientFrame(p []byte) (op byte, body []byte, n int) {
	if len(p) < 2 {
		return 0, nil, 0
	}
	size, head := int(p[1]&127), 2
	switch {
	case size == 126 && len(p) >= 4:
		size, head = int(binary.BigEndian.Uint16(p[2:])), 4
	case size == 127 && len(p) >= 10:
		size, head = int(binary.BigEndian.Uint64(p[2:])), 10
	case size >= 126:
		return 0, nil, 0
	}
	if size < 0 || size > len(p) || len(p) < head+4+size {
		return 0, nil, 0
	}
	mask := p[head : head+4]
	body = p[head+4 : head+4+size]
	if binary.LittleEndian.Uint32(mask) != 0 {
		for i := range body {
			body[i] ^= mask[i&3]
		}
	}
	return p[0] & 15, body, head + 4 + size
}

// appendText appends a whole text frame.
func appendText(dst, body []byte) []byte { return append(appendHead(dst, len(body)), body...) }

func appendHead(dst []byte, n int) []byte {
	dst = append(dst, 0x80|opText)
	switch {
	case n < 126:
		return append(dst, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(dst, 127), uint64(n))
	}
}
