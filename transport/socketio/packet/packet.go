package packet

import (
	"bytes"
	"errors"
	"unicode/utf8"
)

// Type is the type of a Socket.IO packet.
type Type uint8

// The types of Socket.IO packets.
const (
	Connect Type = iota
	Disconnect
	Event
	Ack
	ConnectError
	BinaryEvent
	BinaryAck
)

// Bounds of what is parsed.
const (
	MaxNamespace   = 256 // bytes
	MaxAttachments = 10  // of one packet
	MaxAckID       = 1<<53 - 1
	MaxDepth       = 16 // of the data, its outermost array included
)

// Main is the namespace of packets that name none.
const Main = "/"

// Packet is one packet of Socket.IO. Its slices alias what it was parsed from.
type Packet struct {
	Type      Type
	Namespace []byte // "/" where none is named
	HasID     bool   // the sender of an event wants an acknowledgement; acknowledgements always have it
	ID        uint64 // at most MaxAckID
	Name      string // of an event, decoded
	Data      []byte // JSON text, of events and acknowledgements an array; nil for none
	// Attachments is how many binary attachments the packet announces, and Binaries
	// are those that came, in the order of their numbers.
	Attachments int
	Binaries    [][]byte
}

// What is wrong with packets of Socket.IO.
var (
	ErrType        = errors.New("not a packet type of Socket.IO")
	ErrNamespace   = errors.New("namespace above 256 bytes")
	ErrAckID       = errors.New("acknowledgement id is missing, out of place or out of range")
	ErrAttachments = errors.New("number of attachments is missing or out of range")
	ErrJSON        = errors.New("data is not JSON, or nested too deeply")
	ErrData        = errors.New("data does not fit the packet type")
	ErrEvent       = errors.New("event has no name, or a reserved one")
	ErrPlaceholder = errors.New("placeholders do not fit the attachments")
)

// reserved are the event names that mean something to the libraries themselves.
func reserved(name string) bool {
	switch name {
	case "connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener", "__proto__":
		return true
	}
	return false
}

// Parse parses the text of a packet. Attachments come after it: see Assembler.
func Parse(text []byte) (p Packet, err error) {
	if !utf8.Valid(text) {
		return p, ErrText
	}
	if len(text) == 0 || text[0] < '0' || text[0] > '0'+byte(BinaryAck) {
		return p, ErrType
	}
	p.Type, text = Type(text[0]-'0'), text[1:]
	if p.Type == BinaryEvent || p.Type == BinaryAck {
		if p.Attachments, text, err = attachments(text); err != nil {
			return p, err
		}
	}
	if p.Namespace, text, err = namespace(text); err != nil {
		return p, err
	}
	if p.ID, p.HasID, text, err = ackID(text); err != nil {
		return p, err
	}
	if len(text) > 0 {
		p.Data = text
	}
	return p, p.check()
}

// attachments takes "2-" off.
func attachments(text []byte) (n int, rest []byte, err error) {
	digits := countDigits(text)
	if digits == 0 || digits > 2 || digits == 2 && text[0] == '0' || digits == len(text) || text[digits] != '-' {
		return 0, nil, ErrAttachments
	}
	for _, c := range text[:digits] {
		n = 10*n + int(c-'0')
	}
	if n > MaxAttachments {
		return 0, nil, ErrAttachments
	}
	return n, text[digits+1:], nil
}

// namespace takes "/name," off; the comma may be missing at the end.
func namespace(text []byte) (name, rest []byte, err error) {
	if len(text) == 0 || text[0] != '/' {
		return []byte(Main), text, nil
	}
	name, rest, _ = bytes.Cut(text, []byte{','})
	if len(name) > MaxNamespace {
		return nil, nil, ErrNamespace
	}
	return name, rest, nil
}

// ackID takes digits off.
func ackID(text []byte) (id uint64, has bool, rest []byte, err error) {
	digits := countDigits(text)
	if digits == 0 {
		return 0, false, text, nil
	}
	if digits > 16 || digits > 1 && text[0] == '0' {
		return 0, false, nil, ErrAckID
	}
	for _, c := range text[:digits] {
		id = 10*id + uint64(c-'0')
	}
	if id > MaxAckID {
		return 0, false, nil, ErrAckID
	}
	return id, true, text[digits:], nil
}

func countDigits(text []byte) int {
	n := 0
	for n < len(text) && text[n]-'0' <= 9 {
		n++
	}
	return n
}

// check looks at what the type asks of the rest.
func (p *Packet) check() error {
	s := scanner{text: p.Data}
	switch p.Type {
	case Connect, ConnectError, Disconnect:
		if p.HasID {
			return ErrAckID
		}
		return p.checkPlain(&s)
	case Ack, BinaryAck:
		if !p.HasID {
			return ErrAckID
		}
	case Event, BinaryEvent:
	}
	if p.Data == nil {
		return ErrData
	}
	binary := p.Type == BinaryEvent || p.Type == BinaryAck
	if binary {
		s.places = &places{}
	}
	if err := s.array(); err != nil {
		return err
	}
	if binary && s.places.filled() != p.Attachments {
		return ErrPlaceholder
	}
	if p.Type == Event || p.Type == BinaryEvent {
		return p.checkName()
	}
	return nil
}

// checkPlain is check for packets that are neither event nor acknowledgement.
func (p *Packet) checkPlain(s *scanner) error {
	if p.Data == nil {
		if p.Type == ConnectError {
			return ErrData
		}
		return nil
	}
	if p.Type == Disconnect {
		return ErrData
	}
	first, err := s.document()
	switch {
	case err != nil:
		return err
	case first == '{' || first == '"' && p.Type == ConnectError:
		return nil
	}
	return ErrData
}

// checkName takes the event's name off its data, which is a valid array.
func (p *Packet) checkName() error {
	s := scanner{text: p.Data}
	s.space()
	s.at++
	s.space()
	if s.peek() != '"' {
		return ErrEvent
	}
	from := s.at
	s.str()
	name, ok := unquote(p.Data[from:s.at])
	if !ok || reserved(name) {
		return ErrEvent
	}
	p.Name = name
	return nil
}

// AppendItems appends the items of the data to dst, each as JSON text: arguments of
// an event, its name left out, or of an acknowledgement.
func (p *Packet) AppendItems(dst [][]byte) [][]byte {
	if p.Type == Connect || p.Type == Disconnect || p.Type == ConnectError || p.Data == nil {
		return dst
	}
	skip := p.Type == Event || p.Type == BinaryEvent
	s := scanner{text: p.Data}
	s.space()
	s.at++
	for {
		s.space()
		if s.at >= len(s.text) || s.peek() == ']' {
			return dst
		}
		from := s.at
		if !s.value(0) {
			return dst
		}
		if !skip {
			dst = append(dst, p.Data[from:s.at])
		}
		skip = false
		s.space()
		s.accept(',')
	}
}
