package persist

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// Lineages returns the names of the lineages in a data folder, sorted; those
// that were set aside are not among them, nor are folders of other things; one whose
// mending was cut short is. It opens none. Errors: ErrAbsent where there is no folder, else what the file
// system says.
func Lineages(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read data folder %q: %w", dir, ErrAbsent)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read data folder: %w", err)
	}
	for _, e := range entries {
		if name, mending := strings.CutSuffix(e.Name(), mendSuffix); mending && lineageName.MatchString(name) {
			dir := filepath.Join(dir, name)
			if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && errors.Is(absent(vfs.Default, dir), ErrMending) {
				names = append(names, name)
			}
			continue
		}
		if !e.IsDir() || !lineageName.MatchString(e.Name()) {
			continue
		}
		if inside, err := vfs.Default.List(filepath.Join(dir, e.Name())); err != nil || holdsStore(inside) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// States yields the stored state of every token, by ascending id; what fn is
// given is valid during the call only. A damaged state is left out
// (Recovery.Damage names it).
func (s *Store) States(fn func(ts market.TokenState) error) error {
	return scanStates(s.db, []byte{record.KindState}, []byte{record.KindState + 1}, fn)
}

// historyKinds are the chunks that the points of a granularity come from.
var historyKinds = [market.NumGranularities][]byte{
	market.Granularity1m:  {record.KindHour},
	market.Granularity5m:  {record.KindFive},
	market.Granularity15m: {record.KindFive},
	market.Granularity1h:  {record.KindDay},
	market.Granularity4h:  {record.KindDay},
	market.Granularity1d:  {record.KindMonth, record.KindDay},
}

// TokensWith returns the tokens that may have points of a granularity in
// from ≤ time < to, ascending: all that have any, and some that have none.
func (s *Store) TokensWith(g market.Granularity, from, to market.Time) ([]market.ID, error) {
	if g >= market.NumGranularities {
		return nil, fmt.Errorf("%w: granularity %d", errQuery, g)
	}
	ids := maps.Clone(s.tokens)
	for _, t := range s.rec.Tombstones { // not in the state, and in no chunk for up to two hours
		ids[t.ID] = struct{}{}
	}
	for _, kind := range historyKinds[g] {
		if err := s.chunkTokens(ids, kind, from, to); err != nil {
			return nil, err
		}
	}
	err := s.journalTokens(ids)
	return slices.Sorted(maps.Keys(ids)), err
}

func (s *Store) chunkTokens(ids map[market.ID]struct{}, kind byte, from, to market.Time) error {
	l := layouts[kind]
	const last = market.Time(math.MaxUint32-monthDays) * market.Time(market.Day)
	first, end := dayOf(min(max(from, 0), last))/l.days, dayOf(min(max(to, 0), last))/l.days+1
	return scan(s.db, record.PeriodKey(kind, first), record.PeriodKey(kind, end), func(key, _ []byte) error {
		period, id, _, ok := record.ParseChunkKey(key)
		if !ok {
			return fmt.Errorf("%w: key %x", ErrCorrupt, key)
		}
		ids[id] = struct{}{}
		if !l.hourly || id == math.MaxUint32 {
			return nil
		}
		return skipError{record.ChunkKey(kind, period, id+1, 0)}
	})
}

// journalTokens adds the tokens of the ticks that the state does not know yet.
func (s *Store) journalTokens(ids map[market.ID]struct{}) error {
	return s.readJournal(func(t *market.JournalTick) error {
		for i := range t.Rows {
			ids[t.Rows[i].ID] = struct{}{}
		}
		return nil
	})
}
