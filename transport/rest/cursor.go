package rest

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"github.com/velocimeter/velocimeter/engine/market"
)

// cursor is where a paged history answer goes on: the question's absolute
// range and granularity, so that "the last hour" does not move between pages,
// and the last point that was given.
type cursor struct {
	from, to, after market.Time
	granularity     market.Granularity
}

// cursorKey signs cursors together with the question they belong to.
type cursorKey [sha256.Size]byte

// newCursorKey derives the key from a secret, or makes a random one.
func newCursorKey(secret []byte) (k cursorKey) {
	if secret == nil {
		_, _ = rand.Read(k[:]) // never fails; see crypto/rand
		return k
	}
	return sha256.Sum256(append([]byte("velocimeter cursor 1\x00"), secret...))
}

const (
	cursorBody = 2 + 3*8
	cursorMAC  = 16
	cursorText = (cursorBody + cursorMAC + 2) / 3 * 4 // upper bound of the text's length
)

// encode prints a cursor that only the same question can use.
func (k *cursorKey) encode(c cursor, question string) string {
	b := append(make([]byte, 0, cursorBody+cursorMAC), 1, byte(c.granularity))
	for _, t := range [...]market.Time{c.from, c.to, c.after} {
		b = binary.BigEndian.AppendUint64(b, uint64(t))
	}
	return base64.RawURLEncoding.EncodeToString(append(b, k.sum(b, question)...))
}

// decode reads a cursor; ok is false for one that is forged, damaged, or of
// another question or process.
func (k *cursorKey) decode(text, question string) (c cursor, ok bool) {
	if len(text) > cursorText {
		return cursor{}, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != cursorBody+cursorMAC || b[0] != 1 || b[1] >= byte(market.NumGranularities) {
		return cursor{}, false
	}
	if !hmac.Equal(b[cursorBody:], k.sum(b[:cursorBody], question)) {
		return cursor{}, false
	}
	at := func(i int) market.Time { return market.Time(binary.BigEndian.Uint64(b[2+8*i:])) }
	return cursor{from: at(0), to: at(1), after: at(2), granularity: market.Granularity(b[1])}, true
}

func (k *cursorKey) sum(body []byte, question string) []byte {
	h := hmac.New(sha256.New, k[:])
	_, _ = h.Write(body)
	_, _ = h.Write([]byte(question))
	return h.Sum(nil)[:cursorMAC]
}
