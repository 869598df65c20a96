package persist

import (
	"encoding/binary"
	"fmt"
	"log/slog"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// meta reads the meta records, which everything else is measured by.
func (v *verifier) meta() {
	v.clean = noClean
	numbers := func(key, payload []byte, n int, use func(record.Numbers)) {
		values, err := record.ReadNumbers(payload, n)
		if err != nil {
			v.fault(key, "%v", err)
			return
		}
		use(values)
	}
	v.each(record.KindMeta, func(key, payload []byte) {
		if payload == nil {
			return
		}
		switch string(key[1:]) {
		case record.MetaEpoch:
			if v.rep.Epoch = string(payload); !epochText.Match(payload) {
				v.fault(key, "the epoch %q is not 16 hexadecimal digits", payload)
			}
		case record.MetaReserved:
			numbers(key, payload, 1, func(n record.Numbers) { v.reserved = n[0] })
		case record.MetaClean:
			numbers(key, payload, 1, func(n record.Numbers) { v.clean = n[0] })
		case record.MetaBorn, record.MetaAnew:
			numbers(key, payload, 1, func(record.Numbers) {})
		case record.MetaCoarse:
			numbers(key, payload, 2, func(record.Numbers) {})
		case record.MetaSet:
			set, err := record.ReadStateSet(payload)
			if err != nil {
				v.fault(key, "%v", err)
			}
			v.set = &set
		case record.MetaRoll:
			numbers(key, payload, 3, func(n record.Numbers) { v.rolled = roll{hours: n.Time(0), days: n.Time(1), seq: n[2]} })
		case record.MetaState:
			numbers(key, payload, 5, func(n record.Numbers) {
				v.stored = true
				v.state = stateMark{seq: n[0], at: n.Time(1), position: n[2], tokens: n[3], filed: n.Time(4)}
			})
		case record.MetaLost:
			v.rep.Holes = v.ranges(key, payload)
		case record.MetaCut:
			v.rep.Cut = v.ranges(key, payload)
		default:
			v.fault(key, "meta record %q is unknown", key[1:])
		}
	})
	if v.rep.Epoch == "" {
		v.fault(record.MetaKey(record.MetaEpoch), "the epoch is missing")
	}
	if v.rolled.hours != record.Floor(v.rolled.hours, market.Hour) || v.rolled.days != record.Floor(v.rolled.days, market.Day) {
		v.fault(record.MetaKey(record.MetaRoll), "is not at a full hour and day")
	}
	v.rep.StateSeq = v.state.seq
	if v.view != nil {
		for _, r := range v.view.s.gaps() {
			v.rep.Holes = record.AddLost(v.rep.Holes, r)
		}
	}
}

func (v *verifier) ranges(key, payload []byte) []LostRange {
	list, err := record.ReadLost(payload)
	if err != nil {
		v.fault(key, "%v", err)
		return nil
	}
	for i, r := range list {
		if r.To <= r.From || i > 0 && r.From < list[i-1].To {
			v.fault(key, "ranges are not in order")
			break
		}
	}
	return list
}

// periods finds where each kind of chunk begins: what is older was dropped.
func (v *verifier) periods() {
	for _, kind := range []byte{record.KindHour, record.KindFive, record.KindDay, record.KindMonth} {
		period, ok, err := firstPeriod(v.db, kind, 0, ^uint32(0))
		if v.unreadable(kind, err); err == nil && ok {
			v.first[kind] = period
		}
	}
}

// kept reports whether a period of a kind has not been dropped.
func (v *verifier) kept(kind byte, period uint32) bool {
	first, ok := v.first[kind]
	return ok && period >= first && !v.broken[kind]
}

// states checks the saved state, and has it decoded where there is a check.
func (v *verifier) states() {
	n := uint64(0)
	v.each(record.KindState, func(key, payload []byte) {
		n++
		if payload == nil {
			return
		}
		if _, ok := record.StateID(key); !ok {
			v.fault(key, "the key has %d bytes", len(key))
		} else if _, size := binary.Uvarint(payload); size <= 0 {
			v.fault(key, "the time of its newest sample is missing")
		}
	})
	engines := 0
	v.each(record.KindEngine, func(key, payload []byte) {
		engines++
		if payload != nil && v.o.Checks.Engine != nil {
			if err := v.o.Checks.Engine(payload); err != nil {
				v.fault(key, "does not decode: %v", err)
			}
		}
	})
	key := record.MetaKey(record.MetaState)
	switch {
	case v.broken[record.KindState] || v.broken[record.KindMeta]:
	case n != v.state.tokens:
		v.fault(key, "%d of %d token states are there", n, v.state.tokens)
	case v.set != nil && (v.set.Seq != v.state.seq || uint64(len(v.set.Tokens)) != n):
		v.fault(record.MetaKey(record.MetaSet), "is of tick %d and %d tokens, the state of tick %d and %d", v.set.Seq, len(v.set.Tokens), v.state.seq, n)
	case v.stored != (engines == 1):
		v.fault(key, "the engine's state and its record do not go together")
	}
	if v.o.Checks.Token != nil && v.err == nil {
		v.decodeTokens()
	}
}

func (v *verifier) decodeTokens() {
	r := tokenReader{db: v.db, at: v.state.at, log: slog.New(slog.DiscardHandler)}
	err := r.read([]byte{record.KindState}, []byte{record.KindState + 1}, func(ts market.TokenState, cells []market.Cell) error {
		if err := v.o.Checks.Token(ts, cells); err != nil {
			v.fault(record.StateKey(ts.ID), "does not decode: %v", err)
		}
		return v.ctx.Err()
	})
	switch {
	case v.ctx.Err() != nil:
		v.err = v.ctx.Err()
	case err != nil && v.rep.Sound(): // otherwise its own walk reports it
		v.rep.add(Fault{Kind: kindNames[record.KindState], What: err.Error()})
	}
}

// cells checks the window cells, and those of 5 minutes against those of an hour.
func (v *verifier) cells() {
	fine, last := v.newCursor(record.KindCells), v.newCursor(record.KindLast)
	defer fine.close()
	defer last.close()
	var all, fives []market.Cell
	var a, b []byte
	read := func(c *cursor, dst []market.Cell) ([]market.Cell, bool) {
		day, _, part, ok := record.ParseChunkKey(c.key)
		if !ok || part > 23 {
			v.fault(c.key, "the key is not one of an hour")
			return nil, false
		}
		if c.payload == nil {
			return nil, false
		}
		cells, err := record.ReadCells(dst, hourOf(day, part), c.payload)
		if err != nil {
			v.fault(c.key, "%v", err)
			return nil, false
		}
		v.count(c.kind).Rows += uint64(len(cells))
		return cells, true
	}
	v.pairs(fine, last, func() {}, func(inFine, inLast bool) {
		needed := dayOf(fineFrom(v.state.at))
		goodFine, goodLast := false, false
		if inFine {
			all, goodFine = read(fine, all[:0])
		}
		if inLast {
			fives, goodLast = read(last, fives[:0])
		}
		if inFine && !inLast && !v.broken[record.KindLast] {
			v.fault(fine.key, "has no 5-minute cells beside it")
		}
		if day, _, _, ok := record.ParseChunkKey(last.key); inLast && !inFine && ok && day >= needed && !v.broken[record.KindCells] {
			v.fault(last.key, "has no cells of its hour beside it")
		}
		if !goodFine || !goodLast {
			return
		}
		a = record.AppendCells(a[:0], 0, record.LastOfCells(nil, all, lastWidth))
		if b = record.AppendCells(b[:0], 0, fives); string(a) != string(b) {
			v.fault(last.key, "are not the last of every 5 minutes of the hour's cells")
		}
		v.rep.Recomputed++
	})
}

func (v *verifier) retirements() {
	v.eachAlone(record.KindTombstone, func(key, payload []byte) {
		if _, ok := record.ParseTombstoneKey(key); !ok || len(payload) > 0 {
			v.fault(key, "a retirement of %d and %d bytes", len(key), len(payload))
		}
	})
}

// symbols checks those of tokens whose history was imported.
func (v *verifier) symbols() {
	v.each(record.KindName, func(key, payload []byte) {
		if _, ok := record.NameID(key); !ok || payload != nil && len(payload) == 0 {
			v.fault(key, "a symbol of %d and %d bytes", len(key), len(payload))
		}
	})
}

// strangers looks for records of kinds that there are not.
func (v *verifier) strangers() {
	from := 0
	for kind := 0; kind <= 256; kind++ {
		_, known := kindNames[byte(kind)]
		if kind < 256 && !known {
			continue
		}
		end := []byte{byte(kind)}
		if kind == 256 {
			end = nil
		}
		err := scan(v.db, []byte{byte(from)}, end, func(key, _ []byte) error {
			v.fault(key, "no record is of this kind")
			return v.ctx.Err()
		})
		if err != nil && v.err == nil {
			v.err = v.ctx.Err()
		}
		from = kind + 1
	}
}

// promised reads what the process that wrote the store has promised; a copy has
// no such file.
func (v *verifier) promised() {
	m, known, err := openMarker(v.layer.Over(v.o.FS), v.o.Dir, true)
	if err != nil {
		v.rep.add(Fault{Kind: "file", Key: markFile, What: err.Error()})
	}
	if m == nil {
		return
	}
	if known {
		v.before = m.last
	}
	v.unmarked = m.empty
	_ = m.close() // it was only read
}

// ends compares what the meta records say with where the journal ends.
func (v *verifier) ends() {
	v.rep.newest = max(v.newest, v.state.seq)
	if v.broken[record.KindJournal] || v.broken[record.KindMeta] {
		return
	}
	check := func(ok bool, name, format string, args ...any) {
		if !ok {
			v.fault(record.MetaKey(name), "%s", fmt.Sprintf(format, args...))
		}
	}
	if v.before.durable > v.rep.newest && !follows(v.rep.Holes, v.rep.newest, v.before.durable+1) { // a mending told of those
		v.rep.add(Fault{Kind: "file", Key: markFile, From: v.rep.newest + 1, To: v.before.durable, What: "ticks were durable and are missing"})
	}
	if v.unmarked && v.reserved > 0 {
		v.rep.add(Fault{Kind: "file", Key: markFile, What: "is empty: what was durable and reserved cannot be told"})
	}
	v.reserved = max(v.reserved, v.before.reserved)
	check(v.newest <= v.reserved, record.MetaReserved, "seq %d was used, reserved are those up to %d", v.newest, v.reserved)
	check(v.state.seq <= v.newest, record.MetaState, "the state is of tick %d, the newest tick is %d", v.state.seq, v.newest)
	check(v.clean == noClean || v.clean == v.rep.DurableSeq || v.rep.DurableSeq < v.newest, record.MetaClean,
		"the store was closed at tick %d, the newest tick is %d", v.clean, v.newest)
	if n := len(v.minutes); n > 0 {
		check(v.minutes[n-1].last <= v.newest, record.MetaRoll, "a closed minute ends with tick %d, the newest tick is %d", v.minutes[n-1].last, v.newest)
	}
	if m := v.rep.Backup; m != nil {
		check(m.Seq == v.rep.DurableSeq, record.MetaState, "the backup was made at tick %d, it ends with %d", m.Seq, v.rep.DurableSeq)
		check(m.Epoch == v.rep.Epoch, record.MetaEpoch, "the backup was made of epoch %s, it holds %s", m.Epoch, v.rep.Epoch)
	}
}
