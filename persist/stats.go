package persist

import (
	"sync/atomic"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// counters are what Stats reports, written by the writing goroutine.
type counters struct {
	ticks, rows, commits, saves, damaged atomic.Uint64
	appended, state                      atomic.Uint64
	lastCommit, maxCommit                atomic.Int64 // ns
}

func (c *counters) committed(took time.Duration) {
	c.commits.Add(1)
	c.lastCommit.Store(int64(took))
	c.maxCommit.Store(max(c.maxCommit.Load(), int64(took)))
}

// Stats is how the store is doing.
type Stats struct {
	AppendedSeq uint64
	DurableSeq  uint64
	DurableTime market.Time
	StateSeq    uint64
	Ticks       uint64 // appended since Open
	Rows        uint64
	Commits     uint64
	Saves       uint64
	Damaged     uint64 // values that failed their checks since Open
	LastCommit  time.Duration
	MaxCommit   time.Duration

	BackgroundErrors uint64 // failed flushes and compactions
	DiskFull         uint64 // writes that found no space
	FreeBytes        uint64 // of the disk, as last seen; 0 where that cannot be told
	Paused           bool   // there is no space for history
	LastError        error

	Encrypted   bool  // new files are
	OldKeyFiles int64 // that need a key other than the first, and what they take
	OldKeyBytes int64

	// Estimated bytes on disk.
	JournalBytes, MinuteBytes, FiveBytes, HourBytes, DayBytes uint64
	StateBytes, WindowBytes                                   uint64
	LogBytes                                                  uint64 // write-ahead log
	TotalBytes                                                uint64 // everything pebble holds

	// Bytes written to disk since Open: the log, and what flushes and compactions
	// made of it. Their sum over the log's is the write amplification.
	LogWritten, TableWritten uint64
}

// Stats returns how the store is doing.
func (s *Store) Stats() Stats {
	c := &s.stats
	st := Stats{
		StateSeq: c.state.Load(), Ticks: c.ticks.Load(), Rows: c.rows.Load(), Commits: c.commits.Load(), Saves: c.saves.Load(),
		Damaged: c.damaged.Load(), LastCommit: time.Duration(c.lastCommit.Load()), MaxCommit: time.Duration(c.maxCommit.Load()),
		BackgroundErrors: s.h.background.Load(), DiskFull: s.h.full.Load(),
		FreeBytes: s.space.free.Load(), Paused: s.space.low.Load(),
	}
	st.Encrypted = s.layer.Encrypts()
	st.OldKeyFiles, st.OldKeyBytes = s.rotate.left()
	d := s.durable.Load()
	st.DurableSeq, st.DurableTime = d.seq, d.at
	st.AppendedSeq = max(c.appended.Load(), d.seq)
	if err := s.h.last.Load(); err != nil {
		st.LastError = *err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed || s.h.parked.Load() {
		return st
	}
	for _, k := range []struct {
		into  *uint64
		kinds []byte
	}{
		{&st.JournalBytes, []byte{record.KindJournal}},
		{&st.MinuteBytes, []byte{record.KindHour, record.KindBlock, record.KindMinute}},
		{&st.FiveBytes, []byte{record.KindFive}},
		{&st.HourBytes, []byte{record.KindDay}},
		{&st.DayBytes, []byte{record.KindMonth}},
		{&st.StateBytes, []byte{record.KindState, record.KindEngine}},
		{&st.WindowBytes, []byte{record.KindCells, record.KindLast}},
	} {
		for _, kind := range k.kinds {
			n, err := s.db.EstimateDiskUsage([]byte{kind}, []byte{kind + 1})
			if err != nil {
				st.LastError = err
			}
			*k.into += n
		}
	}
	m := s.db.Metrics()
	st.LogBytes, st.TotalBytes = m.WAL.PhysicalSize, m.DiskSpaceUsage()
	st.LogWritten = m.WAL.BytesWritten
	for i := range m.Levels {
		st.TableWritten += m.Levels[i].TableBytesFlushed + m.Levels[i].TableBytesCompacted
	}
	return st
}
