package coinmarketcap

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// redacted is what stands for a key wherever it is printed.
const redacted = "***"

// maxKey bounds the length of a key, in bytes.
const maxKey = 256

// Key is an API key that cannot be printed: every way of formatting, logging or
// encoding it gives "***" and, for keys of 16 and more characters, their last
// four. The text is held behind a pointer, so that even reflection over a
// struct with an unexported Key prints an address. The zero Key is no key.
type Key struct{ secret *string }

// ErrKey says that a text cannot be a key; it does not repeat the text.
var ErrKey = errors.New("cannot use API key: it is empty, too long, or has characters outside printable ASCII")

// ParseKey takes a key from configuration, without surrounding space.
func ParseKey(text string) (Key, error) {
	text = strings.TrimSpace(text)
	if text == "" || len(text) > maxKey {
		return Key{}, ErrKey
	}
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return Key{}, ErrKey
		}
	}
	return Key{secret: &text}, nil
}

// IsZero reports whether there is no key.
func (k Key) IsZero() bool { return k.secret == nil }

// reveal is the only way to the text; only the request header and scrub use it.
func (k Key) reveal() string {
	if k.secret == nil {
		return ""
	}
	return *k.secret
}

// String returns the redacted form.
func (k Key) String() string {
	if text := k.reveal(); len(text) >= 16 {
		return redacted + text[len(text)-4:]
	}
	return redacted
}

// GoString returns the redacted form.
func (k Key) GoString() string { return k.String() }

// Format writes the redacted form, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// MarshalText returns the redacted form.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// MarshalJSON returns the redacted form as a string: only '*' and the last
// characters of a key, which may include a quote or backslash, hence the check.
func (k Key) MarshalJSON() ([]byte, error) {
	text := k.String()
	if strings.ContainsAny(text, `"\<>&`) {
		text = redacted
	}
	return []byte(`"` + text + `"`), nil
}

// LogValue returns the redacted form.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// UnmarshalText reads a key from configuration.
func (k *Key) UnmarshalText(text []byte) (err error) {
	*k, err = ParseKey(string(text))
	return err
}

// scrubBytes is scrub for a whole answer; text without a key is returned as it is.
func scrubBytes(text []byte, keys []Key) []byte {
	for _, k := range keys {
		if s := []byte(k.reveal()); len(s) > 0 && bytes.Contains(text, s) {
			text = bytes.ReplaceAll(text, s, []byte(redacted))
		}
	}
	return text
}

// scrub takes the texts of keys out of what a provider or a library said.
func scrub(text string, keys []Key) string {
	for _, k := range keys {
		if s := k.reveal(); s != "" && strings.Contains(text, s) {
			text = strings.ReplaceAll(text, s, redacted)
		}
	}
	return text
}
