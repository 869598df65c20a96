package sealed

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestParseKeys(t *testing.T) {
	a, b := NewKey(), NewKey()
	raw, err := hex.DecodeString(b)
	if err != nil {
		t.Fatal(err)
	}
	f := func(text string, keys int, plain, writes bool, problem string) {
		t.Helper()
		k, err := ParseKeys(text)
		if problem != "" {
			if err == nil || !strings.Contains(err.Error(), problem) || strings.Contains(err.Error(), a) {
				t.Errorf("%q: %v, want %q", text, err, problem)
			}
			return
		}
		if err != nil || len(k.read) != keys || k.plain != plain || writes != (k.write != nil) {
			t.Errorf("%q: %v, %v", text, k, err)
		}
	}
	f(a, 1, false, true, "")
	f(a+"\n", 1, false, true, "")
	f("# new\n"+a+"\r\n\n# old\n"+b+"\n", 2, false, true, "")
	f(a+","+base64.StdEncoding.EncodeToString(raw), 2, false, true, "")
	f(strings.ToUpper(a)+"\nplain", 1, true, true, "")
	f("plain\n"+a, 1, true, false, "")
	f(a+"\n"+base64.RawURLEncoding.EncodeToString(raw), 2, false, true, "")
	f("", 0, false, false, "no key")
	f("# "+a, 0, false, false, "no key")
	f("plain", 0, true, false, "plain alone")
	f(a+"\n"+a, 0, false, false, "key 2 (line 2): is there twice")
	f(b+"\n"+base64.StdEncoding.EncodeToString(raw), 0, false, false, "twice")
	f(a+"\nplain\nplain", 0, false, false, "twice")
	f(a[:62], 0, false, false, "64 hexadecimal")
	f(a+"00", 0, false, false, "64 hexadecimal")
	f("password", 0, false, false, "64 hexadecimal")
	f(strings.Repeat("0", 64), 0, false, false, "zeros")
	f(strings.Repeat(a+"\n", 17), 0, false, false, "twice")
}

// No way to print keys prints a key.
func TestKeysAreSecret(t *testing.T) {
	text := NewKey()
	k := mustKeys(t, text)
	bytesShown := strings.Trim(fmt.Sprintf("%d", k.write.secret[:4]), "[]")
	j, err := json.Marshal(map[string]any{"k": k})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("keys", "keys", k)
	for _, shown := range []string{fmt.Sprint(k), fmt.Sprintf("%+v %#v %x %d %s", k, k, k, k, k), string(j), log.String(), fmt.Sprint(k.IDs())} {
		if strings.Contains(shown, text) || strings.Contains(shown, bytesShown) || !strings.Contains(shown, k.IDs()[0]) {
			t.Errorf("shown: %s", shown)
		}
	}
}
