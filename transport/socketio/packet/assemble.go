package packet

import (
	"bytes"
	"errors"
)

// What is wrong with the order or the size of attachments.
var (
	ErrAwaited     = errors.New("text while attachments are awaited")
	ErrUnannounced = errors.New("attachment that no packet announced")
	ErrHeavy       = errors.New("attachments above the limit")
)

// Assembler puts packets and the attachments that follow them together. It keeps at
// most one packet. After an error the connection is to be closed.
type Assembler struct {
	Most int // bytes of all attachments of a packet

	waiting Packet // Attachments of it are awaited; 0 for none
	bytes   int
}

// Text takes the text of a packet; done says that p is whole. p aliases text where
// it has no attachments, else only memory of its own.
func (a *Assembler) Text(text []byte) (p Packet, done bool, err error) {
	if a.waiting.Attachments > 0 {
		return Packet{}, false, ErrAwaited
	}
	if p, err = Parse(text); err != nil {
		return Packet{}, false, err
	}
	if p.Attachments == 0 {
		return p, true, nil
	}
	p, err = Parse(bytes.Clone(text))
	a.waiting, a.bytes = p, 0
	return Packet{}, false, err
}

// Binary takes one attachment, of which it keeps a copy, and returns the packet with
// the last one of it.
func (a *Assembler) Binary(data []byte) (p Packet, done bool, err error) {
	w := &a.waiting
	if w.Attachments == 0 {
		return Packet{}, false, ErrUnannounced
	}
	if a.bytes += len(data); a.bytes > a.Most {
		a.waiting = Packet{}
		return Packet{}, false, ErrHeavy
	}
	w.Binaries = append(w.Binaries, bytes.Clone(data))
	if len(w.Binaries) < w.Attachments {
		return Packet{}, false, nil
	}
	p, a.waiting = *w, Packet{}
	return p, true, nil
}
