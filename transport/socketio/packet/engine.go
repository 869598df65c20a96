package packet

import (
	"bytes"
	"encoding/base64"
	"errors"
	"unicode/utf8"
)

// EngineType is the type of an Engine.IO packet, the digit that it begins with.
type EngineType byte

// The types of Engine.IO packets.
const (
	EngineOpen    EngineType = '0'
	EngineClose   EngineType = '1'
	EnginePing    EngineType = '2'
	EnginePong    EngineType = '3'
	EngineMessage EngineType = '4'
	EngineUpgrade EngineType = '5'
	EngineNoop    EngineType = '6'
)

const (
	// Separator stands between the packets of a payload.
	Separator = 0x1e
	// MaxPackets bounds the packets of one payload: clients send all that waits in one.
	MaxPackets = 128

	binaryPrefix = 'b' // of a binary message where only text goes
)

// What is wrong with packets of Engine.IO.
var (
	ErrEngine  = errors.New("not an Engine.IO packet")
	ErrCrowded = errors.New("more than 128 packets in a payload")
	ErrTooLong = errors.New("payload above the limit")
	ErrText    = errors.New("text is not UTF-8")
	ErrBase64  = errors.New("binary packet is not base64")
)

// Engine is one packet of Engine.IO.
type Engine struct {
	Type   EngineType
	Binary bool   // a message of bytes, else text
	Data   []byte // without the type; it may alias what it was parsed from
}

// ParseEngine parses a packet of text, such as a text message of a WebSocket. text
// must be valid UTF-8; a binary packet, in base64 here, is decoded.
func ParseEngine(text []byte) (Engine, error) {
	if len(text) == 0 {
		return Engine{}, ErrEngine
	}
	switch c := text[0]; {
	case c >= byte(EngineOpen) && c <= byte(EngineNoop):
		return Engine{Type: EngineType(c), Data: text[1:]}, nil
	case c == binaryPrefix:
		data, err := decodeBase64(text[1:])
		return Engine{Type: EngineMessage, Binary: true, Data: data}, err
	}
	return Engine{}, ErrEngine
}

// decodeBase64 takes the standard alphabet with its padding and nothing else.
func decodeBase64(text []byte) ([]byte, error) {
	if bytes.ContainsAny(text, "\r\n") { // which the decoder skips
		return nil, ErrBase64
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(out, text)
	if err != nil {
		return nil, ErrBase64
	}
	return out[:n], nil
}

// ParsePayload appends the packets of a payload of at most most bytes to dst. With
// an error none of them counts.
func ParsePayload(dst []Engine, payload []byte, most int) ([]Engine, error) {
	switch {
	case len(payload) > most:
		return dst, ErrTooLong
	case bytes.Count(payload, []byte{Separator}) >= MaxPackets:
		return dst, ErrCrowded
	case !utf8.Valid(payload):
		return dst, ErrText
	}
	for more := true; more; {
		var text []byte
		text, payload, more = bytes.Cut(payload, []byte{Separator})
		e, err := ParseEngine(text)
		if err != nil {
			return dst, err
		}
		dst = append(dst, e)
	}
	return dst, nil
}

// AppendEngine appends a packet as it stands in a payload, behind a separator where
// dst already holds one. Text must not hold the separator: JSON never does.
func AppendEngine(dst []byte, e Engine) []byte {
	if len(dst) > 0 {
		dst = append(dst, Separator)
	}
	if e.Binary {
		return base64.StdEncoding.AppendEncode(append(dst, binaryPrefix), e.Data)
	}
	return append(append(dst, byte(e.Type)), e.Data...)
}

// AppendText appends a packet that is text already, its type included, likewise.
func AppendText(dst, text []byte) []byte {
	if len(dst) > 0 {
		dst = append(dst, Separator)
	}
	return append(dst, text...)
}
