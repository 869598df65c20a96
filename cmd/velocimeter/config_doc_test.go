package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
)

var rewrite = flag.Bool("rewrite", false, "write generated documents instead of comparing them")

// CONFIG.md is the table of settings, written out.
func TestConfigDocument(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Settings\n\n" +
		"Flags win over the environment, that over the YAML file (`--config FILE` or `VELOCIMETER_CONFIG`), that over the defaults.\n" +
		"`velocimeter config print` shows every value and where it came from; `velocimeter config check` starts and creates nothing.\n" +
		"Keys may also come one a variable: `COINMARKETCAP_KEY_1`, `COINMARKETCAP_KEY_2`, and so on.\n\n" +
		"| setting | flag | environment | default | what |\n|---|---|---|---|---|\n")
	for _, s := range config.Settings() {
		name := ""
		if s.Flag != "" {
			name = "`--" + s.Flag + "`"
		}
		if s.Used == config.MarketServer {
			name += " of `market`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s | %s |\n", s.Path, name, strings.Join(s.Env, "`, `"), s.Default, s.Help)
	}
	if *rewrite {
		if err := os.WriteFile("CONFIG.md", []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	is, err := os.ReadFile("CONFIG.md")
	if err != nil || string(is) != b.String() {
		t.Errorf("CONFIG.md is not what the table of settings says (%v); run go test ./cmd/velocimeter -run ConfigDocument -rewrite", err)
	}
}

// Documents name files; the files must be there.
func TestDocumentsLinkToWhatExists(t *testing.T) {
	root := moduleRoot(t)
	for _, doc := range []string{"README.md", "bench/README.md"} {
		text, err := os.ReadFile(root + "/" + doc)
		if err != nil {
			t.Fatal(err)
		}
		dir := root
		if i := strings.LastIndexByte(doc, '/'); i >= 0 {
			dir += "/" + doc[:i]
		}
		for _, part := range strings.Split(string(text), "](")[1:] {
			target, _, _ := strings.Cut(part, ")")
			if strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(dir + "/" + target); err != nil {
				t.Errorf("%s links to %q: %v", doc, target, err)
			}
		}
	}
}
