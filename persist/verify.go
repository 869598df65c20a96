package persist

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
	"github.com/velocimeter/velocimeter/persist/sealed"
)

// Checks decode what the store keeps for others and cannot read itself. A nil
// one leaves that out; the checksums are always checked.
type Checks struct {
	Engine func(blob []byte) error
	// Token gets a token's state with the samples of its closed hours.
	Token func(ts market.TokenState, cells []market.Cell) error
}

// VerifyOptions says what is verified.
type VerifyOptions struct {
	Dir    string // folder of a lineage, or a backup
	Checks Checks
	FS     vfs.FS       // the machine's own by default
	Keys   *sealed.Keys // of its files; nil for plain ones
}

// ErrNoStore says that a folder holds no lineage and no backup.
var ErrNoStore = errors.New("no store is there")

// Verify reads every record of a lineage or a backup, checks it, recomputes what
// was derived from other records, and reports what is wrong. It changes nothing.
// Damage is in the report; an error says that the verification itself could not
// be done: ErrLocked, ErrNoStore, ErrKey, ErrMending, what the file system says, the context's.
func Verify(ctx context.Context, o VerifyOptions) (*Report, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	began := time.Now()
	rep := &Report{Dir: o.Dir}
	names, err := o.FS.List(o.Dir)
	if errors.Is(err, os.ErrNotExist) && errors.Is(absent(o.FS, o.Dir), ErrMending) {
		err = ErrMending
	}
	if err != nil {
		return nil, fmt.Errorf("cannot verify %q: %w", o.Dir, err)
	}
	if !holdsStore(names) {
		return nil, fmt.Errorf("cannot verify %q: %w", o.Dir, ErrNoStore)
	}
	unlock, err := lockStill(o.FS, o.Dir)
	if err != nil {
		return nil, fmt.Errorf("cannot verify %q: %w", o.Dir, err)
	}
	defer func() { _ = unlock.Close() }()
	v := &verifier{ctx: ctx, o: &o, rep: rep, kinds: map[byte]*KindCount{}, first: map[byte]uint32{}, broken: map[byte]bool{}}
	if v.files(names); v.err == nil && rep.FaultCount == 0 && v.decrypts() {
		v.promised()
		v.store()
	}
	rep.Mended, _ = reportIn(o.FS, o.Dir) // one that cannot be read says so
	rep.Took = time.Since(began)
	if v.err != nil {
		return nil, fmt.Errorf("cannot verify %q: %w", o.Dir, v.err)
	}
	return rep, nil
}

// holdsStore reports whether a folder with these names is a store or a backup.
func holdsStore(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return name == manifestFile || storeFile.MatchString(name) })
}

type nothing struct{}

func (nothing) Close() error { return nil }

// lockStill takes a store's own lock where it has one, as what never was opened
// for writing has not. On a medium that cannot be written to nobody else writes.
func lockStill(files vfs.FS, dir string) (io.Closer, error) {
	name := files.PathJoin(dir, lockFile)
	if _, err := files.Stat(name); err != nil {
		return nothing{}, nil //nolint:nilerr // no lock
	}
	lock, err := files.Lock(name)
	switch {
	case err == nil:
		return lock, nil
	case held(err):
		return nil, fmt.Errorf("%w (%w)", ErrLocked, err)
	}
	return nothing{}, nil
}

// still is a file system that refuses to change anything, so that a look at a
// store cannot.
type still struct{ vfs.FS }

var errStill = errors.New("a store that is only read is not written to")

func (still) Create(string, vfs.DiskWriteCategory) (vfs.File, error) { return nil, errStill }
func (still) Link(string, string) error                              { return errStill }
func (still) Remove(string) error                                    { return errStill }
func (still) RemoveAll(string) error                                 { return errStill }
func (still) Rename(string, string) error                            { return errStill }
func (still) MkdirAll(string, os.FileMode) error                     { return errStill }
func (still) Lock(string) (io.Closer, error)                         { return nothing{}, nil }
func (s still) Unwrap() vfs.FS                                       { return s.FS }

func (still) OpenReadWrite(string, vfs.DiskWriteCategory, ...vfs.OpenOption) (vfs.File, error) {
	return nil, errStill
}

func (still) ReuseForWrite(string, string, vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, errStill
}

// openStill opens a store for reading. Whoever calls it holds the store's lock,
// or knows that nobody else has the folder.
func openStill(files vfs.FS, dir string, layer *sealed.Layer) (db *pebble.DB, err error) {
	defer func() { // a damaged list of files can bring pebble down
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("%w: %v", ErrCorrupt, r)
		}
	}()
	listener := &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}} // whoever reads gets the error; pebble itself would bring down the process
	return pebble.Open(dir, &pebble.Options{FS: layer.Over(still{files}), ReadOnly: true, ErrorIfNotExists: true, Logger: quiet{}, EventListener: listener})
}

// verifier walks one store.
type verifier struct {
	ctx context.Context
	o   *VerifyOptions
	rep *Report

	layer *sealed.Layer // nil where the files are plain
	db    pebble.Reader
	err   error // why the verification cannot go on

	view *view // of a running store, of which db is a picture; nil where nobody writes

	kinds    map[byte]*KindCount
	first    map[byte]uint32 // first period of which a kind has a chunk
	broken   map[byte]bool   // kinds that could not be read to their end
	state    stateMark
	stored   bool             // there is a state
	set      *record.StateSet // what belongs to it; nil in stores of before there was one
	reserved uint64
	clean    uint64  // noClean without a clean stop
	unmarked bool    // MARK is there and empty
	before   promise // of the process that wrote the store; zero where nothing is known
	rolled   roll
	minutes  []minuteSpan // closed, ascending
	newest   uint64       // the last tick's seq
	rows     []record.Row // of one chunk, while it is looked at
}

// decrypts looks at what the files are encrypted with, and reports whether they can
// be read.
func (v *verifier) decrypts() bool {
	var err error
	v.layer, err = sealed.Open(v.o.FS, v.o.Dir, v.o.Keys)
	switch {
	case err == nil:
		return true
	case pebble.IsCorruptionError(err):
		v.rep.add(Fault{Kind: "store", What: err.Error()})
	default:
		v.err = err
	}
	return false
}

// minuteSpan is a closed minute's record.
type minuteSpan struct {
	at          market.Time
	first, last uint64
}

// store opens the store and walks it.
func (v *verifier) store() {
	db, err := openStill(v.o.FS, v.o.Dir, v.layer)
	if errors.Is(err, os.ErrPermission) {
		v.err = err
		return
	}
	if err != nil {
		v.rep.add(Fault{Kind: "store", What: fmt.Sprintf("cannot be opened: %v", err)})
		return
	}
	v.db = db
	defer func() {
		if r := recover(); r != nil { // as in openStill
			v.rep.add(Fault{Kind: "store", What: fmt.Sprintf("cannot be read: %v", r)})
		}
		if err := db.Close(); err != nil && v.err == nil && v.rep.FaultCount == 0 {
			v.err = err
		}
	}()
	v.walk()
}

// walk reads everything.
func (v *verifier) walk() {
	for _, walk := range []func(){
		v.meta, v.periods, v.closedMinutes, v.blocks, v.ladder, v.days, v.months, v.anew, v.states, v.cells, v.retirements, v.symbols,
		v.journal, v.strangers, v.ends,
	} {
		if walk(); v.err != nil {
			return
		}
	}
	for _, kind := range kindOrder {
		v.rep.Kinds = append(v.rep.Kinds, *v.count(kind))
	}
}

// each walks every record of a kind; payload is nil where the record does not
// check out, which is reported already.
func (v *verifier) each(kind byte, fn func(key, payload []byte)) { v.walkKind(kind, nil, fn) }

func (v *verifier) open(c *KindCount, key, value []byte) []byte {
	c.Records++
	c.Bytes += uint64(len(key) + len(value))
	payload, err := record.Open(key, value)
	if err != nil {
		v.fault(key, "%v", err)
		return nil
	}
	return payload
}

// unreadable notes that a kind could not be read to its end.
func (v *verifier) unreadable(kind byte, err error) {
	switch {
	case err == nil:
	case v.ctx.Err() != nil:
		v.err = v.ctx.Err()
	default:
		v.broken[kind] = true
		v.fault([]byte{kind}, "cannot be read to the end: %v", err)
	}
}

// get returns a record's payload; ok is false where there is none, or none that
// checks out (its own walk reports that).
func (v *verifier) get(key []byte, fn func(payload []byte)) (ok bool) {
	value, closer, err := v.db.Get(key)
	if err != nil {
		return !errors.Is(err, pebble.ErrNotFound)
	}
	defer func() { _ = closer.Close() }()
	if payload, err := record.Open(key, value); err == nil {
		fn(payload)
	}
	return true
}

func (v *verifier) count(kind byte) *KindCount {
	c := v.kinds[kind]
	if c == nil {
		c = &KindCount{Kind: kindNames[kind]}
		v.kinds[kind] = c
	}
	return c
}

// fault reports what is wrong with a record.
func (v *verifier) fault(key []byte, format string, args ...any) {
	f := describe(key)
	f.What, _, _ = strings.Cut(fmt.Sprintf(format, args...), "\n") // pebble says it again on other lines
	v.rep.add(f)
}
