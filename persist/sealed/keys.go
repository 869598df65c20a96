package sealed

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

const (
	keyBytes  = 32
	idBytes   = 8
	saltBytes = 32
	// maxKeys bounds what a key file holds.
	maxKeys = 16
	// plainWord stands for a key in a key file: no encryption.
	plainWord = "plain"

	idInfo   = "velocimeter store key id"
	fileInfo = "velocimeter store file"
)

// Keys are what a store's files are encrypted with: the first is for new files,
// the others are for reading. It never prints what is secret.
type Keys struct {
	write *key // nil: new files are plain
	read  map[keyID]*key
	plain bool // plain files may be read
	ids   []string
}

// keyID names a key without telling it.
type keyID [idBytes]byte

func (i keyID) String() string { return hex.EncodeToString(i[:]) }

type key struct {
	id     keyID
	secret [keyBytes]byte
}

// NewKey makes the text of a key: 64 hexadecimal digits.
func NewKey() string {
	var b [keyBytes]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}

// ParseKeys reads a key file: a key a line, of 64 hexadecimal digits or the same
// 32 bytes in base64, or the word plain. The first is what new files are encrypted
// with; files of all are read. Empty lines and those that begin with # are left
// out, commas separate too. No error quotes a key.
func ParseKeys(text string) (*Keys, error) {
	k := &Keys{read: map[keyID]*key{}}
	n := 0
	for at, line := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == ',' }) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if n++; n > maxKeys {
			return nil, fmt.Errorf("more than %d keys", maxKeys)
		}
		if err := k.add(line, n == 1); err != nil {
			return nil, fmt.Errorf("key %d (line %d): %w", n, at+1, err)
		}
	}
	switch {
	case n == 0:
		return nil, errors.New("there is no key in it")
	case len(k.read) == 0:
		return nil, errors.New("it says plain alone: leave the key file away instead")
	}
	return k, nil
}

func (k *Keys) add(line string, first bool) error {
	if line == plainWord {
		if k.plain {
			return errors.New("plain is there twice")
		}
		k.plain = true
		k.ids = append(k.ids, plainWord)
		return nil
	}
	secret, err := parseSecret(line)
	if err != nil {
		return err
	}
	if secret == [keyBytes]byte{} {
		return errors.New("is all zeros")
	}
	id, err := hkdf.Key(sha256.New, secret[:], nil, idInfo, idBytes)
	if err != nil {
		return err
	}
	one := &key{id: keyID(id), secret: secret}
	if _, twice := k.read[one.id]; twice {
		return errors.New("is there twice")
	}
	k.read[one.id] = one
	k.ids = append(k.ids, one.id.String())
	if first {
		k.write = one
	}
	return nil
}

func parseSecret(line string) (secret [keyBytes]byte, err error) {
	if b, err := hex.DecodeString(line); err == nil && len(b) == keyBytes {
		return [keyBytes]byte(b), nil
	}
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if b, err := enc.Strict().DecodeString(line); err == nil && len(b) == keyBytes {
			return [keyBytes]byte(b), nil
		}
	}
	return secret, errors.New("is neither 64 hexadecimal digits nor 32 bytes in base64; `velocimeter store-key` makes one")
}

// IDs names the keys in their order; they are safe to show.
func (k *Keys) IDs() []string {
	if k == nil {
		return nil
	}
	return k.ids
}

// String implements fmt.Stringer: ids, no keys.
func (k *Keys) String() string { return "keys " + strings.Join(k.IDs(), ", ") }

// GoString implements fmt.GoStringer.
func (k *Keys) GoString() string { return k.String() }

// Format implements fmt.Formatter, so that no verb prints a key.
func (k *Keys) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// LogValue implements slog.LogValuer.
func (k *Keys) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText implements encoding.TextMarshaler.
func (k *Keys) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// cipher makes a file's own cipher: no two files have the same salt, so a nonce
// need only differ within a file.
func (k *key) cipher(salt []byte) (cipher.AEAD, error) {
	own, err := hkdf.Key(sha256.New, k.secret[:], salt, fileInfo, keyBytes)
	if err != nil {
		return nil, fmt.Errorf("cannot derive a file's key: %w", err)
	}
	block, err := aes.NewCipher(own)
	if err != nil {
		return nil, fmt.Errorf("cannot make a cipher: %w", err)
	}
	return cipher.NewGCM(block)
}
