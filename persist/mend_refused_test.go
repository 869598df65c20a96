package persist

import (
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// A value that does not check out in a block that does is told by what its key says.
func TestMendRefused(t *testing.T) {
	mem := vfs.NewMem()
	w := newWalk(t, 7, testOptions(mem), 6)
	w.mk.dirty, w.mk.share = false, 1
	for range 300 {
		w.append(market.Minute)
	}
	w.save()
	w.append(market.Minute)
	w.commit()
	id := w.mk.ids[2]
	hour := record.Floor(w.mk.now.Add(-3*market.Hour), market.Hour)
	day, part := dayOf(hour), byte(hourOfDay(hour))
	spoil(t, w.s, record.ChunkKey(record.KindHour, day, id, part))
	spoil(t, w.s, record.ChunkKey(record.KindDay, day, id, 0)) // is made of minutes again
	spoil(t, w.s, record.StateKey(id))
	spoil(t, w.s, record.JournalKey(300))
	rot := record.BlockKey(w.mk.now.Add(-3*market.Minute)/60000*60000, record.Group(id))
	value := append(record.Begin(nil), 0xff, 0xff)
	record.Seal(rot, value) // checks out, and says nothing
	if err := w.s.db.Set(rot, value, nil); err != nil {
		t.Fatal(err)
	}
	settled(t, w.s)
	flagDamaged(t, &w.o)
	s := mustOpen(t, w.o)
	defer func() { _ = s.Close() }()
	m := s.Recovery().Mended
	if m == nil || m.Failed != "" || m.Refused < 5 {
		t.Fatalf("%+v", m)
	}
	token := Loss{FirstToken: id, LastToken: id, From: hour, To: hour.Add(market.Hour)}
	for kind, exact := range map[string]bool{"1m": true, "tick": false} {
		if !slices.ContainsFunc(m.Lost, func(l Loss) bool {
			l.Kind = strings.TrimPrefix(l.Kind, kind)
			return l.Kind == "" && (!exact || l == token)
		}) {
			t.Errorf("%s of token %d is not told: %+v", kind, id, m.Lost)
		}
	}
	if !slices.ContainsFunc(m.Lost, func(l Loss) bool { return l.Kind == "state" && l.FirstToken == id && l.LastToken == id }) {
		t.Errorf("the state of token %d is not told: %+v", id, m.Lost)
	}
}

// Where the manifest and all tables are gone, nobody knows what there was: that is said.
func TestMendWithoutTables(t *testing.T) {
	for _, marked := range []bool{true, false} {
		base, w := flipBase(t, true, nil)
		mem := base.CrashClone(vfs.CrashCloneCfg{})
		for _, name := range filesOf(t, mem, w.o.Dir) {
			if strings.HasSuffix(name, ".sst") || strings.Contains(name, "MANIFEST") || !marked && strings.HasSuffix(name, markFile) {
				if err := mem.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
		}
		o := w.o
		o.FS = mem
		truth := openLook(t, w, base.CrashClone(vfs.CrashCloneCfg{}))
		s := mustOpen(t, o)
		p := look(s, w.mk.ids, w.mk.now.Add(market.Day))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		p.vague = true
		if wrong := p.against(truth); wrong != "" || !losesOf(p.rec.Mended, "unknown") {
			t.Errorf("marked %v: %s\n%+v", marked, wrong, p.rec.Mended)
		}
	}
}
