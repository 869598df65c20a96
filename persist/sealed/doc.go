// Package sealed encrypts a store's files: a file system over another one, on
// which pebble and the store's own files lie in frames of AES-256-GCM. A frame
// that was changed, cut off, moved or is from another file is an error, never
// other bytes. ../FORMAT.md describes what is on disk.
package sealed

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// ErrKey says that the keys are not those of the store: one is missing, none was
// given, or some were for a store that is not encrypted. Nothing was changed.
var ErrKey = errors.New("store key does not fit")

// ErrDamaged says that a file does not authenticate. It is a pebble.ErrCorruption
// too, so that pebble takes it for what it is.
var ErrDamaged error = damagedError{}

type damagedError struct{}

func (damagedError) Error() string        { return "encrypted file is damaged" }
func (damagedError) Is(target error) bool { return target == pebble.ErrCorruption }

func damaged(name, format string, args ...any) error {
	return fmt.Errorf("%w: %q %s", ErrDamaged, name, fmt.Sprintf(format, args...))
}
