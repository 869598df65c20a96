package persist

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/sealed"
)

// Options says where the store is and what it keeps. Zero values mean the defaults.
type Options struct {
	// Dir is the data folder; every lineage has a folder of its own below it.
	Dir string
	// Lineage names the lineage's folder: lower case letters, digits and hyphens.
	Lineage string
	// Fresh moves an existing lineage aside to <lineage>.<epoch>.old and starts anew.
	Fresh bool
	// Retention says how long what is kept, in engine time.
	Retention Retention
	// CacheBytes bounds the block cache; 32 MiB by default.
	CacheBytes int64
	// MemTableBytes is the size of a memtable, four of which may exist; 8 MiB by default.
	MemTableBytes uint64
	// BatchBytes bounds what Append gathers in memory before it goes to the
	// write-ahead log unsynced; 4 MiB by default.
	BatchBytes int
	// MinFreeBytes is what stays free on the disk: below it history pauses with
	// ErrNoSpace, and goes on by itself when a quarter more is free. 0: nothing.
	MinFreeBytes int64
	// BallastBytes are set aside in a file of the data folder, to be given up when
	// a write finds no space. 0: none.
	BallastBytes int64
	// Logger receives what the store has to say; silent by default.
	Logger *slog.Logger
	// Fatal is called once when the storage failed for good (a failed sync above
	// all). It must bring the process to its end: a background goroutine of the
	// store may be parked, so that it can do no harm. It must not call the store.
	Fatal func(error)
	// DiskFull is called, at most four times a second, while writes find no
	// space. It must be quick and must not call the store.
	DiskFull func()
	// OnDamage says what to do about a damaged store; Mend by default.
	OnDamage OnDamage
	// FS is the file system; the machine's own by default.
	FS vfs.FS
	// Keys encrypt the lineage's files; nil for plain ones.
	Keys *sealed.Keys
}

// Retention is how long each kind of history is kept. Rows are dropped by whole
// days (32 days for daily ones), so they stay up to that much longer.
type Retention struct {
	Ticks  market.Millis // 2 h by default
	Minute market.Millis // 7 d
	Five   market.Millis // 30 d
	Hour   market.Millis // 400 d
	Day    market.Millis // 0: for ever
}

var lineageName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

// CheckLineage says what is wrong with a lineage's name, or nil.
func CheckLineage(name string) error {
	if !lineageName.MatchString(name) {
		return fmt.Errorf("%w: lineage %q is not a name of a-z, 0-9 and -", ErrOptions, name)
	}
	return nil
}

const (
	minCache    = 1 << 20
	minMemTable = 256 << 10
	maxMemTable = 1 << 30
)

// withDefaults fills in defaults and checks everything before anything is touched.
func (o Options) withDefaults() (Options, error) {
	fill(&o.Retention.Ticks, 2*market.Hour)
	fill(&o.Retention.Minute, 7*market.Day)
	fill(&o.Retention.Five, 30*market.Day)
	fill(&o.Retention.Hour, 400*market.Day)
	fill(&o.CacheBytes, 32<<20)
	fill(&o.MemTableBytes, 8<<20)
	fill(&o.BatchBytes, 4<<20)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	r := o.Retention
	check(o.Dir != "", "no data folder")
	check(lineageName.MatchString(o.Lineage), "lineage %q is not a name of a-z, 0-9 and -", o.Lineage)
	check(r.Ticks > 0 && r.Minute > 0 && r.Five > 0 && r.Hour > 0 && r.Day >= 0, "a retention is negative")
	check(o.CacheBytes >= minCache, "cache of %d bytes is below %d", o.CacheBytes, minCache)
	check(o.MemTableBytes >= minMemTable && o.MemTableBytes <= maxMemTable, "memtable of %d bytes is not in %d…%d", o.MemTableBytes, minMemTable, maxMemTable)
	check(o.MinFreeBytes >= 0 && o.BallastBytes >= 0, "%d bytes to stay free, a ballast of %d", o.MinFreeBytes, o.BallastBytes)
	check(o.BatchBytes > 0, "batch of %d bytes", o.BatchBytes)
	if len(errs) > 0 {
		return o, fmt.Errorf("%w: %w", ErrOptions, errors.Join(errs...))
	}
	return o, nil
}

func fill[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}
