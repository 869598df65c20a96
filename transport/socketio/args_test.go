package socketio

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// FuzzSelection reads arguments of any form.
func FuzzSelection(f *testing.F) {
	for _, s := range []string{`1`, `"*"`, `[1,"x",1]`, `["*"]`, `null`, `[]`, `[[]]`, `{"a":1}`, `1e3`, `4294967296`, `"\ud800"`, `"é"`, `["x","y"]`} {
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, text string, known int) {
		var raw json.RawMessage
		if json.Unmarshal([]byte(text), &raw) != nil || len(raw) == 0 {
			return
		}
		s, err := parseSelection(raw, func(name string) market.ID {
			if len(name) == 0 || len(name) > maxName {
				t.Fatalf("looks for %q", name)
			}
			if len(name) > known {
				return 0
			}
			return market.ID(len(name))
		})
		if err != nil {
			if err.Code != wire.BadValue && err.Code != wire.TooMany && err.Code != wire.BadMessage || err.Text == "" {
				t.Fatalf("%q: %+v", text, err)
			}
			return
		}
		switch {
		case s.kind == whole && (s.ids != nil || s.unknown != nil),
			s.kind == one && len(s.ids)+len(s.unknown) != 1,
			s.kind == many && len(s.ids)+len(s.unknown) == 0:
			t.Fatalf("%q: %+v", text, s)
		}
		if !slices.IsSorted(s.ids) || len(slices.Compact(slices.Clone(s.ids))) != len(s.ids) || slices.Contains(s.ids, 0) {
			t.Fatalf("%q: %v", text, s.ids)
		}
		for _, name := range s.unknown {
			if !json.Valid([]byte(name)) {
				t.Fatalf("%q: echoes %q", text, name)
			}
		}
	})
}

// FuzzCredentials reads what a CONNECT may bring.
func FuzzCredentials(f *testing.F) {
	for _, s := range []string{``, `{}`, `{"pid":"x","offset":"12"}`, `{"pid":5}`, `{"offset":"-1"}`, `{"token":null}`, `{"offset":"18446744073709551616"}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, wrong := readCredentials([]byte(text))
		if wrong == "" && (len(c.PID) > credentialMost || len(text) > authMost || c.offset() >= 1<<53) {
			t.Fatalf("%q: %+v", text, c)
		}
	})
}
