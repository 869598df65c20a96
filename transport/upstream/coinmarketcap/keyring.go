package coinmarketcap

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/source"
)

// keyring hands out keys and lets those rest that cannot be used.
type keyring struct {
	slots []slot
	at    int
}

// slot is a key with the time until which it rests.
type slot struct {
	key   Key
	until market.Time
	err   *source.Error
}

// newKeyring holds the keys, or one empty key for keyless routes.
func newKeyring(keys []Key) keyring {
	if len(keys) == 0 {
		keys = []Key{{}}
	}
	r := keyring{slots: make([]slot, len(keys))}
	for i, k := range keys {
		r.slots[i].key = k
	}
	return r
}

// pick returns the current key if it does not rest, else the next that does
// not, else the one whose rest ends first: the caller was told to stay away, so
// its coming back is the retry.
func (r *keyring) pick(now market.Time) (Key, int) {
	best, until := r.at, market.Time(math.MaxInt64)
	for i := range r.slots {
		j := (r.at + i) % len(r.slots)
		if u := r.slots[j].until; u <= now {
			best = j
			break
		} else if u < until {
			best, until = j, u
		}
	}
	r.at = best
	return r.slots[best].key, best
}

func (r *keyring) good(i int) { r.slots[i].until, r.slots[i].err = 0, nil }

// failed lets the key rest if the error is the key's own, and reports whether
// another one can be tried at once. Where none can, err becomes the error of the
// key that is usable first.
func (r *keyring) failed(i int, err *source.Error, now market.Time) (again bool) {
	// The same state machine that schedules the provider says how long.
	switch err.Kind {
	case source.KindAuth, source.KindPlan, source.KindRateDay, source.KindRateMonth:
	default:
		return false
	}
	s := source.NewSchedule(source.Config{})
	r.slots[i].until = s.Failed(now, err)
	kept := *err
	r.slots[i].err = &kept
	first := i
	for j := range r.slots {
		if r.slots[j].until <= now {
			return true
		}
		if r.slots[j].until < r.slots[first].until {
			first = j
		}
	}
	if r.slots[first].err != nil {
		*err = *r.slots[first].err
	}
	return false
}
