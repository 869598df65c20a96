package persist

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
	"github.com/velocimeter/velocimeter/persist/sealed"
)

// mender makes a new store of what can be read of a damaged one. Values are
// believed by their envelopes and chosen by what they say, not by pebble's order of
// them: that is gone where tables are compacted or the manifest is damaged. So what
// was overwritten or deleted may come up again. It does no harm: most values are
// written once, states are told apart by their set, of the rest the one that goes
// furthest counts, and readers know by time what is over.
type mender struct {
	o           *Options
	fs          vfs.FS
	from        vfs.FS // of the damaged store
	dir, target string
	report      *Mended

	table        *tableReader
	manifest     *manifest // nil where none can be read
	tables, logs []string
	others       []string
	found        []tableFile
	reads        map[string]*pastReads
	hits         []hit
	refused      []hit       // values that do not check out in parts that do
	newestLog    market.Time // of the first tick in the newest log that has one; 0 for none
	logHits      [][2]uint64 // ticks beside a damaged part of a log

	promise  promise
	promised bool // MARK says what was used
	blurred  bool // it may have said more
	newer    error

	oldEpoch string
	meta     mendMeta
	ticks    map[uint64]market.Time
	graves   map[market.ID]market.Time
	chunkEnd market.Time // of the newest hour in chunks
	dayEnd   market.Time // of the newest day with its row

	layer  *sealed.Layer // of the new store
	db     *pebble.DB
	h      *health
	batch  *pebble.Batch
	state  stateMark
	set    *record.StateSet
	rolled roll
}

// mendMeta is what the meta records say, of all that can be read the furthest.
type mendMeta struct {
	epoch     string
	reserved  uint64
	roll      roll
	born      market.Time
	anew      uint64
	lost, cut []LostRange
	coarse    stretch // of imported rows without finer ones
	states    map[uint64]stateMark
	sets      map[uint64]*record.StateSet
}

func (m *mender) run() error {
	m.table, m.reads = newTableReader(), map[string]*pastReads{}
	m.ticks, m.graves = map[uint64]market.Time{}, map[market.ID]market.Time{}
	m.meta.states, m.meta.sets = map[uint64]stateMark{}, map[uint64]*record.StateSet{}
	if err := m.list(); err != nil {
		return err
	}
	m.readPromise()
	if err := m.each(m.survey, true); err != nil {
		return err
	}
	if m.newer != nil {
		return m.newer
	}
	m.choose()
	m.losses()
	return m.build()
}

// list finds the files that may hold records and what is wrong with the others.
func (m *mender) list() error {
	names, err := m.fs.List(m.dir)
	for range 2 { // all depends on it
		if err != nil {
			names, err = m.fs.List(m.dir)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot list %q: %w", m.dir, err)
	}
	slices.Sort(names)
	for _, name := range names {
		switch {
		case strings.HasSuffix(name, ".sst"):
			m.tables = append(m.tables, name)
		case strings.HasSuffix(name, ".log"):
			m.logs = append(m.logs, name)
		case name != lockFile && name != mendedFile:
			m.others = append(m.others, name)
		}
	}
	man, err := readEdits(m.from, m.dir)
	switch {
	case err != nil:
		m.damaged(manifestPrefix+"…", "it cannot be read, so that tables which are gone leave no trace: "+err.Error())
	case !man.whole:
		m.damaged(man.name, "it is damaged, so that tables which are gone may leave no trace")
		m.manifest = man
	default:
		m.manifest = man
	}
	m.manifest.order(m.tables)
	return nil
}

// maxFileDamage bounds what a report says of files; further ones are counted.
const maxFileDamage = 64

func (m *mender) damaged(name, what string) {
	if len(m.report.Files) < maxFileDamage {
		m.report.Files = append(m.report.Files, FileDamage{Name: name, What: what})
		return
	}
	m.report.MoreFiles++
}

// readPromise reads MARK. A place of it that is neither valid nor blank may have
// promised more than the other.
func (m *mender) readPromise() {
	data, torn, err := looseRead(m.from, m.fs.PathJoin(m.dir, markFile), markSlots*markStride)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		data, torn, err = looseRead(m.from, m.fs.PathJoin(m.dir, markFile), markSlots*markStride)
	}
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			m.damaged(markFile, err.Error())
		}
		return
	}
	m.blurred = torn
	for i := range markSlots {
		from, to := min(i*markStride, len(data)), min(i*markStride+markBytes, len(data))
		p, ok := parsePromise(data[from:to])
		switch {
		case ok && (!m.promised || p.generation > m.promise.generation):
			m.promise, m.promised = p, true
		case !ok && !zero(data[from:to]):
			m.blurred = true
		}
	}
	if m.blurred || !m.promised {
		m.damaged(markFile, "it is damaged")
	}
}

// each yields the values of every file in which there are any, older ones first as
// far as the manifest tells; damage is noted where it is asked for.
func (m *mender) each(fn func(key, value []byte) error, note bool) error {
	old := 0
	for m.manifest != nil && old < len(m.logs) {
		if n, ok := fileNumber(m.logs[old], ".log"); !ok || n >= m.manifest.log {
			break
		}
		old++
	}
	last := uint64(0)
	for _, name := range m.logs[:old] { // kept to be used again: tables hold the same, or newer
		if err := m.readLog(name, &last, fn, note); err != nil {
			return err
		}
	}
	for _, name := range m.tables {
		if err := m.readTable(name, fn, note); err != nil {
			return err
		}
	}
	if note {
		m.missingTables()
	}
	for _, name := range m.logs[old:] {
		if err := m.readLog(name, &last, fn, note); err != nil {
			return err
		}
	}
	if note {
		m.unknownEnd(last)
	}
	return m.misplaced(fn)
}

// unknownEnd notes that nobody knows what came after the newest tick: the log that
// would hold it is gone, or what was promised cannot be read.
func (m *mender) unknownEnd(last uint64) {
	kept := m.manifest == nil || slices.ContainsFunc(m.logs, func(name string) bool {
		n, ok := fileNumber(name, ".log")
		return ok && n >= m.manifest.log
	})
	if !kept {
		m.damaged(fmt.Sprintf("%06d.log", m.manifest.log), "the log is missing")
	}
	if !kept || m.blurred || !m.promised {
		for seq := range m.ticks {
			last = max(last, seq)
		}
		m.hitLog(last)
	}
}

// survey learns from a value what decides about all of them.
func (m *mender) survey(key, value []byte) error {
	if len(key) == 0 {
		return nil
	}
	m.report.Records++
	payload, err := record.Open(key, value)
	if err == nil {
		err = m.surveyed(key, payload)
	}
	if err == nil {
		return nil
	}
	m.report.Refused++
	if errors.Is(err, record.ErrVersion) && key[0] == record.KindMeta {
		m.newer = corrupt(err)
	}
	m.refused = addHit(m.refused, hit{after: bytes.Clone(key), before: after(key), value: true})
	return nil
}

// surveyed is survey of a value whose envelope checks out. Error: the rest of it
// does not.
func (m *mender) surveyed(key, payload []byte) (err error) {
	switch key[0] {
	case record.KindMeta:
		m.surveyMeta(string(key[1:]), payload)
	case record.KindJournal:
		head, err := record.ReadHead(payload)
		if err != nil {
			return err
		}
		if seq, ok := record.JournalSeq(key); ok {
			m.ticks[seq] = head.At
		}
	case record.KindTombstone:
		if t, ok := record.ParseTombstoneKey(key); ok {
			m.graves[t.ID] = max(m.graves[t.ID], t.Time)
		}
	case record.KindBlock:
		return record.ReadBlock(payload, 0, func(market.ID, record.Row) {})
	case record.KindMinute:
		_, err = record.ReadNumbers(payload, 2)
	case record.KindHour, record.KindFive, record.KindDay, record.KindMonth:
		return m.surveyChunk(key, payload)
	}
	return err
}

// surveyChunk learns how far chunks reach, and where rows were imported: those need
// not have finer ones.
func (m *mender) surveyChunk(key, payload []byte) error {
	l := layouts[key[0]]
	period, _, part, ok := record.ParseChunkKey(key)
	rows, err := record.ReadRows(nil, payload, l.rows)
	if !ok || err != nil || len(rows) == 0 {
		return err
	}
	at := dayStart(period * l.days)
	if l.hourly {
		at = at.Add(market.Millis(part) * market.Hour)
	}
	for i := range rows {
		from := at.Add(market.Millis(rows[i].Index) * l.width)
		to := l.end(from, &rows[i])
		if rows[i].Flags&record.Imported != 0 && l.width > market.Minute {
			m.meta.coarse.add(stretch{from: from, to: to})
		}
		if m.chunkEnd = max(m.chunkEnd, ceil(to, market.Hour)); key[0] == record.KindMonth {
			m.dayEnd = max(m.dayEnd, to)
		}
	}
	return nil
}

func (m *mender) surveyMeta(name string, payload []byte) {
	n := func(count int) record.Numbers {
		values, err := record.ReadNumbers(payload, count)
		if err != nil {
			return nil
		}
		return values
	}
	switch name {
	case record.MetaEpoch:
		m.meta.epoch = string(payload)
	case record.MetaReserved:
		if v := n(1); v != nil {
			m.meta.reserved = max(m.meta.reserved, v[0])
		}
	case record.MetaAnew:
		if v := n(1); v != nil {
			m.meta.anew = max(m.meta.anew, v[0])
		}
	case record.MetaBorn:
		if v := n(1); v != nil && (m.meta.born == 0 || v.Time(0) < m.meta.born) {
			m.meta.born = v.Time(0)
		}
	case record.MetaRoll:
		if v := n(3); v != nil {
			r := &m.meta.roll
			r.hours, r.days, r.seq = max(r.hours, v.Time(0)), max(r.days, v.Time(1)), max(r.seq, v[2])
		}
	case record.MetaCoarse:
		if v := n(2); v != nil {
			m.meta.coarse.add(stretch{from: v.Time(0), to: v.Time(1)})
		}
	case record.MetaState:
		if v := n(5); v != nil {
			m.meta.states[v[0]] = stateMark{seq: v[0], at: v.Time(1), position: v[2], tokens: v[3], filed: v.Time(4)}
			keepNewest(m.meta.states, maxStates)
		}
	case record.MetaSet:
		if set, err := record.ReadStateSet(payload); err == nil {
			m.meta.sets[set.Seq] = &set
			keepNewest(m.meta.sets, maxSets)
		}
	case record.MetaLost:
		m.meta.lost = joinLost(m.meta.lost, payload)
	case record.MetaCut:
		m.meta.cut = joinLost(m.meta.cut, payload)
	}
}

// Old versions of these are in every log and table: the newest are looked for, and
// a set is as large as there are tokens.
const (
	maxStates = 64
	maxSets   = 4
)

func keepNewest[V any](by map[uint64]V, limit int) {
	if len(by) > limit {
		delete(by, slices.Min(slices.Collect(maps.Keys(by))))
	}
}

func joinLost(list []LostRange, payload []byte) []LostRange {
	more, err := record.ReadLost(payload)
	if err == nil {
		for _, r := range more {
			list = record.AddLost(list, r)
		}
	}
	return list
}
