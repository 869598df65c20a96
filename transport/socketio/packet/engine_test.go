package packet

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestParsePayload(t *testing.T) {
	f := func(payload, want string, wantErr error) {
		t.Helper()
		got, err := ParsePayload(nil, []byte(payload), 1000)
		if !errors.Is(err, wantErr) {
			t.Errorf("%q: error %v, want %v", payload, err, wantErr)
			return
		}
		if err != nil {
			return
		}
		var text []byte
		for _, e := range got {
			if e.Binary {
				text = append(text, '#')
			}
			text = append(append(append(text, byte(e.Type)), e.Data...), '|')
		}
		if string(text) != want {
			t.Errorf("%q: got %q, want %q", payload, text, want)
		}
	}
	f("4hello", "4hello|", nil)
	f("4hello\x1e2\x1e4world", "4hello|2|4world|", nil)
	f("4hello\x1ebAQIDBA==", "4hello|#4\x01\x02\x03\x04|", nil)
	f("b", "#4|", nil)
	f("4€", "4€|", nil)
	f("3", "3|", nil)
	f("2probe", "2probe|", nil)
	f("1", "1|", nil)
	f("", "", ErrEngine)
	f("abc", "", ErrEngine)
	f("7", "", ErrEngine)
	f("4a\x1e", "", ErrEngine)
	f("\x1e4a", "", ErrEngine)
	f("4\xff", "", ErrText)
	f("bAQID\nBA==", "", ErrBase64)
	f("bAQIDBA", "", ErrBase64)
	f("bAQIDBB==", "", ErrBase64) // bits behind the end
	f("b!", "", ErrBase64)
	f("b-_-_", "", ErrBase64)
	f(strings.Repeat("4\x1e", 127)+"4", strings.Repeat("4|", 128), nil)
	f(strings.Repeat("4\x1e", 128)+"4", "", ErrCrowded)
	f(strings.Repeat("\x1e", 129), "", ErrCrowded)
	f("4"+strings.Repeat("x", 999), "4"+strings.Repeat("x", 999)+"|", nil)
	f(strings.Repeat("4", 1001), "", ErrTooLong)
}

func TestAppendEngine(t *testing.T) {
	out := AppendEngine(nil, Engine{Type: EnginePing})
	out = AppendText(out, []byte(`42["a"]`))
	out = AppendEngine(out, Engine{Type: EngineMessage, Binary: true, Data: []byte{1, 2, 3, 4}})
	if want := "2\x1e42[\"a\"]\x1ebAQIDBA=="; string(out) != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func FuzzPayload(f *testing.F) {
	for _, seed := range []string{"4hello", "4hello\x1ebAQIDBA==", "2probe", "\x1e", "b", "4\x1e4\x1e5", "b=\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		const most = 1 << 10
		packets, err := ParsePayload(nil, payload, most)
		if err != nil {
			return
		}
		if len(packets) == 0 || len(packets) > MaxPackets {
			t.Fatalf("%d packets", len(packets))
		}
		var out []byte
		for _, e := range packets {
			out = AppendEngine(out, e)
		}
		if !bytes.Equal(out, payload) {
			t.Fatalf("%q became %q", payload, out)
		}
	})
}
