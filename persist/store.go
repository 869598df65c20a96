package persist

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
	"github.com/velocimeter/velocimeter/persist/sealed"
)

// Store is one lineage on disk. History and Stats may be called at any time, and
// so may Close and Abandon: they wait for the call that is writing, later ones
// get ErrClosed. What writes comes from one goroutine, since ticks have an order.
type Store struct {
	opts   Options
	log    *slog.Logger
	lock   io.Closer
	cache  *pebble.Cache
	db     *pebble.DB
	h      *health
	space  *space
	layer  *sealed.Layer // nil where the files are plain
	rotate *rotation     // nil where no file needs an old key
	mark   *marker
	before *promise // of the process before; nil where nothing is known
	rec    Recovery
	strict bool  // a start that finds anything suspicious fails
	broken error // a promise of the process before that does not hold; nil: none
	// readOnly: no file is changed, and nothing can be written. Fixed by Open.
	readOnly bool

	// mu is held for reading while a reader uses db, and for writing by Close.
	mu     sync.RWMutex
	closed bool // written with both mutexes held

	// writer is held by whatever writes, never by a reader; it comes before mu.
	// It guards all up to cuts, once Open has returned.
	writer      sync.Mutex
	batch       *pebble.Batch // appended and not yet handed to pebble
	enc         record.TickEncoder
	value       []byte
	reserved    uint64
	appended    uint64      // seq of the newest tick appended
	refused     uint64      // of the newest that there was no space for
	skipped     []LostRange // between ticks that were appended: there was no space for them, and no state says so yet
	lost        []LostRange // as the store says, once a state has added to Recovery.Lost
	at          market.Time
	position    uint64
	open        openMinute
	rolled      roll
	state       stateMark
	tokens      map[market.ID]struct{} // whose state is stored
	retired     map[market.ID]struct{} // since the stored state
	unsynced    bool                   // something appended is not durable yet
	trimmed     uint64                 // journal records below are dropped
	retained    market.Time            // when retention ran last
	retainedSeq uint64
	cuts        map[byte]uint32 // first period kept, by kind of chunk

	// cutOff are ticks that damage before them cut off from the state: history
	// shows those that can be read, nothing replays them. Fixed by Open.
	cutOff []LostRange

	durable atomic.Pointer[mark]
	born    atomic.Int64 // instant of the lineage's first tick; 0 before it
	stats   counters

	backing  atomic.Bool // a backup is being made
	checking atomic.Bool // Check runs

	refusals atomic.Pointer[[]LostRange] // see gaps
	life     context.Context             // ends when Close begins, for what reads for long
	die      context.CancelFunc
}

// mark is a position in the journal.
type mark struct {
	seq uint64
	at  market.Time
}

// stateMark is the tick of the stored state.
type stateMark struct {
	seq      uint64
	at       market.Time // of the engine
	filed    market.Time // under which the store filed the newest tick by then
	position uint64
	tokens   uint64
}

var epochText = regexp.MustCompile(`^[0-9a-f]{16}$`)

// Open opens or creates a lineage and recovers it; Recovery tells what was
// found. Errors: ErrOptions (nothing was touched), ErrLocked (nothing was
// changed), ErrKey (likewise), ErrFormat, ErrCorrupt where even the meta records are
// unreadable.
func Open(o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return open(o, false)
}

// OpenReadOnly opens a lineage to read its history; it changes none of its
// files, whatever it finds. It takes the data folder for itself like Open, so
// no two readers share one. Recovery tells what an Open would find, Close lets
// go. Errors: as Open's, ErrAbsent where there is nothing to read, ErrMending where a
// mending was cut short.
func OpenReadOnly(o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	o.Fresh = false
	dir := o.FS.PathJoin(o.Dir, o.Lineage)
	if _, err := o.FS.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot open store %q: %w", dir, absent(o.FS, dir))
	} else if err != nil {
		return nil, fmt.Errorf("cannot open store %q: %w", dir, err)
	}
	return open(o, true)
}

func open(o Options, readOnly bool) (*Store, error) {
	lock, err := lockDir(&o)
	if err != nil {
		return nil, err
	}
	s, err := begin(o, lock, readOnly)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

// begin opens a lineage in a folder that is locked, once more where it had to be
// mended.
func begin(o Options, lock io.Closer, readOnly bool) (*Store, error) {
	mendIt := !readOnly && o.OnDamage == Mend
	if !readOnly {
		if err := finishMend(&o); err != nil {
			return nil, err
		}
	}
	s := newStore(o, lock, readOnly)
	s.strict = !readOnly
	err := s.start()
	if err == nil {
		s.h.letGo()
		return s, nil
	}
	err = errors.Join(err, s.close())
	if !mendable(err) {
		return nil, err
	}
	if !errors.Is(err, ErrCorrupt) { // of a file that is missing, say
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if !mendIt {
		return nil, err
	}
	if err := mend(&o, err); err != nil {
		return nil, err
	}
	o.Fresh = false
	s = newStore(o, lock, readOnly)
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.h.letGo()
	return s, nil
}

func newStore(o Options, lock io.Closer, readOnly bool) *Store {
	s := &Store{
		opts: o, log: o.Logger, lock: lock, readOnly: readOnly,
		space:  newSpace(&o),
		tokens: map[market.ID]struct{}{}, retired: map[market.ID]struct{}{}, cuts: map[byte]uint32{},
	}
	s.h = &health{log: o.Logger, onFatal: o.Fatal, onFull: o.DiskFull, space: s.space, closing: make(chan struct{}), dead: make(chan struct{})}
	s.space.open()
	s.open.accs = map[market.ID]*record.Acc{}
	s.h.loading.Store(true)
	s.life, s.die = context.WithCancel(context.Background())
	return s
}

// tidy ends what a process before began and did not end: a restore, a backup.
func (s *Store) tidy() error {
	if s.readOnly {
		return nil
	}
	if err := tidyRestore(&s.opts); err != nil {
		return err
	}
	checkpoint := s.opts.FS.PathJoin(s.opts.Dir, s.opts.Lineage+checkpointSuffix)
	if err := s.opts.FS.RemoveAll(checkpoint); err != nil { // it holds on to files
		s.log.Warn("cannot remove what is left of a backup", "folder", checkpoint, "error", err)
	}
	return nil
}

func (s *Store) start() error {
	if err := s.tidy(); err != nil {
		return err
	}
	if s.opts.Fresh {
		if err := setAside(&s.opts); err != nil {
			return err
		}
	}
	s.cache = pebble.NewCache(s.opts.CacheBytes)
	dir := s.opts.FS.PathJoin(s.opts.Dir, s.opts.Lineage)
	var err error
	if s.layer, err = sealed.Open(s.opts.FS, dir, s.opts.Keys); err != nil {
		return fmt.Errorf("cannot open store %q: %w", dir, sealedError(err))
	}
	if s.layer.Encrypts() {
		s.log.Info("the store is encrypted", "key", s.opts.Keys.IDs()[0])
	}
	if err := s.known(dir); err != nil {
		return fmt.Errorf("cannot open store %q: %w", dir, err)
	}
	options := pebbleOptions(&s.opts, s.h, s.cache, s.layer)
	options.ReadOnly = s.readOnly
	db, err := openPebble(dir, options, s.h)
	if err != nil {
		if errors.Is(err, pebble.ErrDBDoesNotExist) { // its first start was cut short
			err = fmt.Errorf("%w (%w)", ErrAbsent, err)
		}
		return fmt.Errorf("cannot open store %q: %w", dir, err)
	}
	s.db = db
	s.rec.Mended = readMended(&s.opts)
	s.batch = db.NewBatch()
	if err := s.openMark(dir); err != nil {
		return err
	}
	if !s.readOnly {
		if err := syncDir(s.opts.FS, s.opts.Dir); err != nil {
			return err
		}
	}
	if err := s.recover(); err != nil {
		return fmt.Errorf("cannot recover store %q: %w", dir, err)
	}
	return s.startRotation(dir)
}

// sealedError marks what says that a file is damaged.
func sealedError(err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// Close commits what is open, notes that nothing is missing, and lets go of the
// data folder. It is for a caller that knows that every tick that was published
// has been appended; any other calls Abandon. After a fatal failure it leaves
// the files as they are. It waits for a call that is writing, so for the disk.
func (s *Store) Close() error { return s.end(s.seal) }

// Abandon lets go of the data folder as it is, like a crash would: what was not
// committed is lost, and the next Open goes on behind the reserved seqs. It is
// for a caller that may have published more than it appended. Like Close it
// waits for a call that is writing; after either, both do nothing.
func (s *Store) Abandon() error { return s.end(func() error { return nil }) }

func (s *Store) end(last func() error) error {
	s.rotate.stop()
	s.writer.Lock()
	defer s.writer.Unlock()
	s.die()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.h.err()
	if err == nil && !s.readOnly {
		err = last()
	}
	return errors.Join(err, s.release())
}

// seal commits and writes the mark of a clean stop, unless the newest ticks are
// missing: their seqs were told to clients.
func (s *Store) seal() error {
	if err := s.commit(); err != nil || s.refused > s.appended || len(s.skipped) > 0 {
		return err
	}
	if err := s.putMeta(record.MetaClean, record.AppendNumbers(nil, s.durable.Load().seq)); err != nil {
		return err
	}
	return s.promised(s.durable.Load().seq, true)
}

func (s *Store) release() error { return errors.Join(s.close(), s.lock.Close()) }

// close lets go of everything but the data folder.
func (s *Store) close() error {
	close(s.h.closing)
	var err error
	if s.batch != nil {
		err = s.batch.Close()
	}
	// A parked goroutine may hold pebble's locks: closing would wait for ever,
	// and the process is about to end.
	if s.h.parked.Load() {
		err = errors.Join(err, s.h.held.release())
	} else if s.db != nil {
		err = errors.Join(err, s.db.Close())
	}
	if s.cache != nil {
		s.cache.Unref()
	}
	if s.mark != nil {
		err = errors.Join(err, s.mark.close())
	}
	return err
}

// writable returns why nothing can be written, or nil.
func (s *Store) writable() error {
	switch {
	case s.closed:
		return ErrClosed
	case s.readOnly:
		return ErrReadOnly
	}
	s.h.loading.Store(false)
	return s.h.err()
}

// apply hands a batch to pebble and empties it. A failure is final: what a
// failed write left behind cannot be known.
func (s *Store) apply(b *pebble.Batch, o *pebble.WriteOptions) error {
	if b.Empty() {
		return nil
	}
	if err := s.db.Apply(b, o); err != nil {
		s.h.fail(err)
	}
	b.Reset()
	return s.h.err()
}

// put adds a sealed value whose payload fill appends.
func (s *Store) put(b *pebble.Batch, key []byte, payload func(dst []byte) []byte) error {
	s.value = payload(record.Begin(s.value[:0]))
	record.Seal(key, s.value)
	return b.Set(key, s.value, nil)
}

// putMeta writes a meta record and syncs it.
func (s *Store) putMeta(name string, payload []byte) error {
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }()
	if err := s.setMeta(b, name, payload); err != nil {
		return err
	}
	return s.apply(b, pebble.Sync)
}

func (s *Store) setMeta(b *pebble.Batch, name string, payload []byte) error {
	return s.put(b, record.MetaKey(name), func(dst []byte) []byte { return append(dst, payload...) })
}

// getMeta returns a copy of a meta record's payload, nil where there is none.
func getMeta(r pebble.Reader, name string) ([]byte, error) {
	key := record.MetaKey(name)
	value, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read meta record %q: %w", name, err)
	}
	payload, err := record.Open(key, value)
	payload = append([]byte{}, payload...)
	return payload, errors.Join(corrupt(err), closer.Close())
}

// corrupt turns an error of package record into one of the store.
func corrupt(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, record.ErrVersion):
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

func newEpoch() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}
