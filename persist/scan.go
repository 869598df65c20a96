package persist

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// skipError tells scan to go on at a later key.
type skipError struct{ to []byte }

func (skipError) Error() string { return "skip" }

// errStop tells scan that nothing more is wanted.
var errStop = errors.New("stop")

// scan calls fn for every key from start up to end. Key and value are valid
// during the call only. An iterator that ends early reports why: an iteration
// is never silently short.
func scan(r pebble.Reader, start, end []byte, fn func(key, value []byte) error) (err error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: start, UpperBound: end})
	if err != nil {
		return fmt.Errorf("cannot read store: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; {
		value, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("cannot read key %x: %w", it.Key(), storeError(err))
		}
		var skip skipError
		switch err := fn(it.Key(), value); {
		case errors.As(err, &skip):
			ok = it.SeekGE(skip.to)
			continue
		case errors.Is(err, errStop):
			return nil
		case err != nil:
			return err
		}
		ok = it.Next()
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("cannot read store: %w", storeError(err))
	}
	return nil
}

func storeError(err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}
