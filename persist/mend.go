package persist

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
)

// A store that cannot be opened, or is known to be damaged, is mended: everything
// in its files that checks out goes into a new store beside it, the damaged one is
// kept under another name, and what is missing is told.
//
// The new store is made in <lineage>.mend while the damaged one stays where it is.
// So a crash before the first rename leaves leftovers, which the next start
// removes; one between the two renames leaves no lineage, and the next start does
// the second.

// OnDamage is what a start does about a damaged store.
type OnDamage uint8

const (
	// Mend keeps the damaged store aside and goes on with all that can be read.
	Mend OnDamage = iota
	// StopOnDamage makes Open fail with ErrCorrupt.
	StopOnDamage
)

// Mended is what was found when a store was mended.
type Mended struct {
	At       time.Time    `json:"at"`
	Why      string       `json:"why"`
	Folder   string       `json:"folder"` // the damaged store, kept
	Epoch    string       `json:"epoch"`
	NewEpoch bool         `json:"new_epoch"` // it could not be told which seqs were used
	Failed   string       `json:"failed,omitempty"`
	Records  uint64       `json:"records"`   // that were read
	Refused  uint64       `json:"refused"`   // of those, that did not check out
	State    bool         `json:"state"`     // the saved state was found whole
	Files    []FileDamage `json:"files"`     // what is wrong with which file, the first 64
	LostSeqs []SeqRange   `json:"lost_seqs"` // ticks that are missing, at most 256 ranges
	Lost     []Loss       `json:"lost"`      // history that may be missing, at most 256 ranges
	// MoreFiles counts the damaged files beyond those in Files, Joined the ranges and
	// parts of files that were joined with another since there were too many: what
	// lies between counts as lost, too, and may be there.
	MoreFiles uint64 `json:"more_files,omitempty"`
	Joined    uint64 `json:"joined,omitempty"`
}

// FileDamage says what is wrong with a file of a damaged store.
type FileDamage struct {
	Name string `json:"name"`
	What string `json:"what"`
}

// SeqRange are the ticks from First to Last.
type SeqRange struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

const (
	mendedFile = "MENDED"
	// damageFile in a store's folder tells the next start that a file was found to
	// be damaged while it was in use.
	damageFile  = "DAMAGED"
	mendSuffix  = ".mend"
	asideSuffix = ".damaged"
)

// mendable reports whether an error of opening a store is one of its files'
// contents, which waiting or a setting would not cure.
func mendable(err error) bool {
	for _, no := range []error{ErrFormat, ErrKey, ErrOptions, ErrLocked, ErrAbsent, ErrNoSpace, ErrFatal} {
		if errors.Is(err, no) {
			return false
		}
	}
	for _, no := range []error{os.ErrPermission, syscall.EROFS, syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, no) {
			return false
		}
	}
	for _, yes := range []error{ErrCorrupt, os.ErrNotExist, syscall.EIO, io.ErrUnexpectedEOF, pebble.ErrDBDoesNotExist} {
		if errors.Is(err, yes) {
			return true
		}
	}
	return pebble.IsCorruptionError(err)
}

// mend replaces a damaged store. Error: where nothing was changed and the store
// can neither be mended nor begun anew.
func mend(o *Options, why error) error {
	dir := o.FS.PathJoin(o.Dir, o.Lineage)
	o.Logger.Error("the store is damaged: it is being mended", "folder", dir, "why", why)
	if err := roomToMend(o, dir); err != nil {
		return errors.Join(err, why)
	}
	target := dir + mendSuffix
	var m *mender
	err := errUnsteady
	for tries := 0; tries < 3 && errors.Is(err, errUnsteady); tries++ {
		m = &mender{o: o, fs: o.FS, from: loose(o, dir), dir: dir, target: target, report: newMended(why)}
		err = m.run()
	}
	switch {
	case err == nil:
	case errors.Is(err, ErrFormat) || errors.Is(err, errTarget):
		return errors.Join(fmt.Errorf("cannot mend store %q: %w", dir, err), o.FS.RemoveAll(target), why)
	default:
		// No history is better than no service: the files stay for whoever can read them.
		o.Logger.Error("the store cannot be mended: a new one begins", "folder", dir, "error", err)
		m.report.Failed = err.Error()
		if err := m.nothing(); err != nil {
			return errors.Join(fmt.Errorf("cannot begin store %q anew: %w", dir, err), why)
		}
	}
	return m.install()
}

// newMended begins a report. Lists without anything are not null in JSON.
func newMended(why error) *Mended {
	return &Mended{At: time.Now().UTC(), Why: why.Error(), Files: []FileDamage{}, LostSeqs: []SeqRange{}, Lost: []Loss{}}
}

// roomToMend wants space for all that may be read.
func roomToMend(o *Options, dir string) error {
	names, err := o.FS.List(dir)
	if err != nil {
		return fmt.Errorf("cannot list %q: %w", dir, err)
	}
	need := uint64(o.MinFreeBytes) + 16<<20
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") && !strings.HasSuffix(name, ".log") {
			continue
		}
		if info, err := o.FS.Stat(o.FS.PathJoin(dir, name)); err == nil {
			need += uint64(info.Size())
		}
	}
	u, err := o.FS.GetDiskUsage(o.Dir)
	if err != nil || u.AvailBytes >= need {
		return nil //nolint:nilerr // a file system that cannot tell has room
	}
	return fmt.Errorf("cannot mend store %q: %w: it takes %d bytes, %d are free", dir, ErrNoSpace, need, u.AvailBytes)
}

// install puts the new store into the damaged one's place.
func (m *mender) install() error {
	o, epoch := m.o, m.report.Epoch
	if epoch == "" || m.report.NewEpoch {
		epoch = "unknown"
		if m.oldEpoch != "" {
			epoch = m.oldEpoch
		}
	}
	aside, err := freeName(o.FS, o.FS.PathJoin(o.Dir, o.Lineage+"."+epoch), asideSuffix)
	if err != nil {
		return err
	}
	m.report.Folder = o.FS.PathBase(aside)
	if old := readMended(o); old != nil { // what was lost before is no less so
		m.addOld(old)
	}
	text, err := json.MarshalIndent(m.report, "", "\t")
	if err != nil {
		return fmt.Errorf("BUG: a report: %w", err)
	}
	if err := writeFile(o.FS, o.FS.PathJoin(m.target, mendedFile), append(text, '\n')); err != nil {
		return err
	}
	if err := errors.Join(syncDir(o.FS, m.target), syncDir(o.FS, o.Dir)); err != nil {
		return err
	}
	if err := o.FS.Rename(m.dir, aside); err != nil {
		return fmt.Errorf("cannot set a damaged store aside: %w", err)
	}
	if err := syncDir(o.FS, o.Dir); err != nil {
		return err
	}
	m.report.tell(o.Logger)
	return finishMend(o)
}

// addOld takes in what an earlier mending told.
func (m *mender) addOld(old *Mended) {
	seqs, lost := m.report.LostSeqs, m.report.Lost
	m.report.LostSeqs, m.report.Lost = []SeqRange{}, []Loss{}
	m.report.Joined += old.Joined
	for _, r := range slices.Concat(old.LostSeqs, seqs) {
		m.report.addSeqs(r)
	}
	for _, l := range slices.Concat(old.Lost, lost) {
		m.add(l)
	}
}

// finishMend does the last step of mending where the one before is done, and
// removes what an unfinished one left.
func finishMend(o *Options) error {
	dir := o.FS.PathJoin(o.Dir, o.Lineage)
	target := dir + mendSuffix
	if _, err := o.FS.Stat(target); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("cannot look at %q: %w", target, err)
	}
	_, err := o.FS.Stat(dir)
	switch {
	case err == nil:
		err = o.FS.RemoveAll(target)
	case errors.Is(err, os.ErrNotExist):
		if _, err = o.FS.Stat(o.FS.PathJoin(target, mendedFile)); err == nil {
			err = o.FS.Rename(target, dir)
		} else if errors.Is(err, os.ErrNotExist) { // somebody took the damaged one away meanwhile
			err = o.FS.RemoveAll(target)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot finish mending %q: %w", dir, err)
	}
	return syncDir(o.FS, o.Dir)
}

// absent says why a lineage's folder is not there: between the two renames of a
// mending it is not.
func absent(fs vfs.FS, dir string) error {
	if _, err := fs.Stat(fs.PathJoin(dir+mendSuffix, mendedFile)); err == nil {
		return ErrMending
	}
	return ErrAbsent
}

// freeName returns base+suffix, with a number in between where that is taken.
func freeName(fs vfs.FS, base, suffix string) (string, error) {
	name := base + suffix
	for n := 2; ; n++ {
		_, err := fs.Stat(name)
		if errors.Is(err, os.ErrNotExist) {
			return name, nil
		}
		if err != nil {
			return "", fmt.Errorf("cannot look at %q: %w", name, err)
		}
		name = fmt.Sprintf("%s.%d%s", base, n, suffix)
	}
}

// maxMended bounds what is read of a report.
const maxMended = 16 << 20

// readMended returns the report that lies in a store's folder, nil for none.
func readMended(o *Options) *Mended {
	m, err := reportIn(o.FS, o.FS.PathJoin(o.Dir, o.Lineage))
	if err != nil {
		o.Logger.Warn("the report of a mending cannot be read", "error", err)
	}
	return m
}

// reportIn returns the report that lies in a folder, nil for none. Of one that cannot
// be read nobody knows what it said was lost: beside the error there is one that
// says so.
func reportIn(fs vfs.FS, dir string) (*Mended, error) {
	path := fs.PathJoin(dir, mendedFile)
	data, _, err := looseRead(fs, path, maxMended)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	m := &Mended{}
	if err == nil {
		err = json.Unmarshal(data, m)
	}
	if err != nil {
		err = fmt.Errorf("cannot read %q: %w", path, err)
		return &Mended{Why: err.Error(), Lost: []Loss{{Kind: "unknown", LastToken: anyToken, To: maxTime}}}, err
	}
	return m, nil
}

// tell writes the report to the log.
func (r *Mended) tell(log *slog.Logger) {
	for _, f := range r.Files {
		log.Warn("damaged file", "file", f.Name, "what", f.What)
	}
	for _, l := range r.LostSeqs {
		log.Warn("ticks are lost", "first_seq", l.First, "last_seq", l.Last)
	}
	for i := range r.Lost {
		l := &r.Lost[i]
		from, to := l.Span()
		log.Warn("history may be lost", "kind", l.Kind, "tokens", l.Tokens(), "from", from, "to", to)
	}
	log.Warn("the store was mended", "damaged", r.Folder, "epoch", r.Epoch, "new_epoch", r.NewEpoch, "records", r.Records, "refused", r.Refused, "state", r.State,
		"more_files", r.MoreFiles, "joined", r.Joined)
}

// Loss is a part of history of which rows may be missing: of tokens from
// FirstToken to LastToken, in From ≤ time < To.
type Loss struct {
	// Kind is tick, 1m, 5m, 1h, 1d, window, state or retirement; all, where nothing
	// could be read; unknown, where nobody knows which files there were: anything of
	// that time may be missing.
	Kind       string      `json:"kind"`
	FirstToken market.ID   `json:"first_token"`
	LastToken  market.ID   `json:"last_token"`
	From       market.Time `json:"from"`
	To         market.Time `json:"to"`
}

// Span prints the stretch as people read it: RFC 3339, "the beginning" and "the end"
// where it has none.
func (l *Loss) Span() (from, to string) {
	from, to = "the beginning", "the end"
	if l.From > 0 {
		from = l.From.Std().UTC().Format(time.RFC3339Nano)
	}
	if l.To < maxTime {
		to = l.To.Std().UTC().Format(time.RFC3339Nano)
	}
	return from, to
}

// Tokens prints which tokens it is about.
func (l *Loss) Tokens() string {
	switch {
	case l.FirstToken == l.LastToken:
		return strconv.FormatUint(uint64(l.FirstToken), 10)
	case l.FirstToken == 0 && l.LastToken == anyToken:
		return "all"
	}
	last := "the last"
	if l.LastToken != anyToken {
		last = strconv.FormatUint(uint64(l.LastToken), 10)
	}
	return fmt.Sprintf("%d to %s", uint32(l.FirstToken), last)
}
