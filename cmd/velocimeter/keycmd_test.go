package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// A user makes a key, serves with it, and finds out what each command says without
// it, with another and with a new one in front.
func TestEncryptedStore(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	key := func(name string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if o := runApp(t.Context(), nil, "store-key", "--out", file); o.code != exitOK {
			t.Fatal(o)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || info.Size() != 65 {
			t.Fatal(info, err)
		}
		return file
	}
	first, second := key("first"), key("second")
	if o := runApp(t.Context(), nil, "store-key", "--out", first); o.code != exitIO {
		t.Errorf("a key was written over: %+v", o)
	}
	text := func(file string) string {
		t.Helper()
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	serve := func(keys string) *server {
		t.Helper()
		return startServer(t, data, "--market-tokens", "20", "--sync-window", "0s", "--store-key-file", keys)
	}
	metric := func(s *server, line string) {
		t.Helper()
		s.until("/metrics", func(_ int, body string) bool { return strings.Contains(body, "\n"+line+"\n") })
	}
	s := serve(first)
	metric(s, "velocimeter_storage_encrypted 1")
	if o := s.stop(); o.code != exitOK {
		t.Fatal(o)
	}
	refused := func(words []string, env map[string]string, args ...string) {
		t.Helper()
		for _, command := range [][]string{{"serve", "--listen", freePort(t), "--admin-listen", freePort(t), "--market-tokens", "20"}, {"export"}} {
			o := runApp(t.Context(), env, append(append(command, "--data", data), args...)...)
			if o.code != exitConfig {
				t.Errorf("%v: exit %d: %s", command, o.code, o.stderr)
			}
			for _, word := range words {
				if !strings.Contains(o.stderr, word) {
					t.Errorf("%v does not say %q: %s", command, word, o.stderr)
				}
			}
			if strings.Contains(o.stderr, strings.TrimSpace(text(first))) {
				t.Error("a key is told")
			}
		}
	}
	refused([]string{"the store is encrypted", "store.key_file"}, nil)
	refused([]string{"further line"}, nil, "--store-key-file", second)
	with := map[string]string{"VELOCIMETER_STORE_KEY": text(first)}
	if o := runApp(t.Context(), with, "export", "--data", data, "-g", "raw"); o.code != exitOK || strings.Count(o.stdout, "\n") < 20 {
		t.Errorf("exit %d: %s", o.code, o.stderr)
	}
	both := filepath.Join(dir, "both")
	if err := os.WriteFile(both, []byte(text(second)+text(first)), 0o600); err != nil {
		t.Fatal(err)
	}
	s = serve(both)
	metric(s, "velocimeter_storage_old_key_files 0")
	if o := s.stop(); o.code != exitOK {
		t.Fatal(o)
	}
	for _, file := range []string{first, second} {
		for _, out := range []string{s.out.String(), s.errs.String()} {
			if strings.Contains(out, strings.TrimSpace(text(file))) {
				t.Error("a key is told")
			}
		}
	}
	refused(nil, nil, "--store-key-file", first)
	if o := runApp(t.Context(), nil, "export", "--data", data, "-g", "raw", "--store-key-file", second); o.code != exitOK {
		t.Errorf("exit %d: %s", o.code, o.stderr)
	}
}

// The value of a flag is called by one word, whatever its text quotes.
func TestFlagValues(t *testing.T) {
	for _, cmd := range (&app{}).command().Commands() {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if name, _ := pflag.UnquoteUsage(f); strings.Contains(name, " ") {
				t.Errorf("%s: --%s %s", cmd.Name(), f.Name, name)
			}
		})
	}
}
