package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
	"github.com/velocimeter/velocimeter/persist/sealed"
)

func TestStoreKeys(t *testing.T) {
	a, b := sealed.NewKey(), sealed.NewKey()
	file := filepath.Join(t.TempDir(), "key")
	f := func(text string, mode os.FileMode, vars map[string]string, keys int, problem string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		src := config.Sources{Env: env(vars), Flags: map[string]string{}}
		if text != "" {
			src.Flags["store-key-file"] = file
		}
		c, err := config.Load(src)
		switch {
		case problem != "":
			if err == nil || !strings.Contains(err.Error(), problem) || strings.Contains(err.Error(), a[:8]) {
				t.Errorf("%q, %v: %v, want %q", text, vars, err, problem)
			}
		case err != nil || len(c.StoreKeys.IDs()) != keys:
			t.Errorf("%q, %v: %v", text, vars, err)
		default:
			if shown := strings.Join(c.Origins(), "\n") + fmt.Sprintf("%v %+v", c.StoreKeys, c.StoreKeys); strings.Contains(shown, a[:8]) || strings.Contains(shown, a[60:]) {
				t.Errorf("shown: %s", shown)
			}
		}
	}
	variable := func(v string) map[string]string { return map[string]string{"VELOCIMETER_STORE_KEY": v} }
	f("", 0o600, nil, 0, "")
	f("# new\n"+a+"\n"+b+"\n", 0o400, nil, 2, "")
	f("", 0o600, variable(a+"\n"+b), 2, "")
	f("", 0o600, variable(a+",plain"), 2, "")
	f(a, 0o644, nil, 0, "--store-key-file: store.key_file: others can read")
	f(a, 0o644, map[string]string{"VELOCIMETER_ALLOW_INSECURE_PERMISSIONS": "true"}, 1, "")
	f(a, 0o600, variable(b), 0, "store.key is set too")
	f("\n", 0o600, nil, 0, "there is no key in it")
	f(a[:60], 0o600, nil, 0, "key 1 (line 1): is neither 64 hexadecimal digits")
	f("", 0o600, variable(a+"0"), 0, "VELOCIMETER_STORE_KEY: store.key: key 1 (line 1)")
	if _, err := config.Load(config.Sources{Flags: map[string]string{"store-key-file": file + ".none"}}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
	yaml := write(t, "store:\n  key: "+a+"\n")
	if err := os.Chmod(yaml, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(config.Sources{File: yaml}); err == nil || !strings.Contains(err.Error(), "store.key: others can read this file") {
		t.Error(err)
	}
}
