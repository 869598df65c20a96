package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

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

// Documents name files and headings; both must be there.
func TestDocumentsLinkToWhatExists(t *testing.T) {
	root := moduleRoot(t)
	links := 0
	for _, doc := range documents(t, root) {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range linkTargets(string(text)) {
			links++
			if err := checkLink(doc, target); err != nil {
				rel, _ := filepath.Rel(root, doc)
				t.Errorf("%s links to %q: %v", rel, target, err)
			}
		}
	}
	if links == 0 {
		t.Error("no link was found in any document")
	}
}

// documents lists the tree's documents, without what git ignores or hides.
func documents(t *testing.T, root string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"bin", "dist", "velocimeter-data"}, d.Name())):
			return filepath.SkipDir
		case !d.IsDir() && strings.HasSuffix(path, ".md"):
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

var (
	fencePattern   = regexp.MustCompile("(?ms)^```.*?^```")
	codePattern    = regexp.MustCompile("`[^`\n]*`")
	linkPattern    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headingPattern = regexp.MustCompile(`(?m)^#{1,6} +(.*)$`)
)

// linkTargets returns what a document links to, code left out.
func linkTargets(text string) (targets []string) {
	text = codePattern.ReplaceAllString(fencePattern.ReplaceAllString(text, ""), "code")
	for _, m := range linkPattern.FindAllStringSubmatch(text, -1) {
		targets = append(targets, m[1])
	}
	return targets
}

func checkLink(doc, target string) error {
	if strings.Contains(target, "://") {
		return nil
	}
	name, anchor, _ := strings.Cut(target, "#")
	file := doc
	if name != "" {
		file = filepath.Join(filepath.Dir(doc), name)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		if info, e := os.Stat(file); e == nil && info.IsDir() && anchor == "" {
			return nil
		}
		return errors.New("no such file")
	}
	if anchor != "" && !slices.Contains(anchors(string(text)), anchor) {
		return errors.New("no such heading")
	}
	return nil
}

// anchors returns the names that a renderer gives a document's headings: in
// lower case, letters, digits, - and _ kept, spaces as dashes.
func anchors(text string) (names []string) {
	for _, m := range headingPattern.FindAllStringSubmatch(fencePattern.ReplaceAllString(text, ""), -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(m[1]))
		if n := 0; slices.Contains(names, name) {
			for base := name; slices.Contains(names, name); {
				n++
				name = fmt.Sprintf("%s-%d", base, n)
			}
		}
		names = append(names, name)
	}
	return names
}

func TestCheckLink(t *testing.T) {
	dir := t.TempDir()
	doc := filepath.Join(dir, "a.md")
	text := "# Fields, numbers\n## Close codes (all)\n## Close codes (all)\n```\n# no heading\n[x](no.md)\n```\n`[y](no.md)` [z](b.md) [w](https://h/)\n"
	if err := os.WriteFile(doc, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := linkTargets(text); !slices.Equal(got, []string{"b.md", "https://h/"}) {
		t.Errorf("links %q", got)
	}
	f := func(target string, good bool) {
		t.Helper()
		if err := checkLink(doc, target); good != (err == nil) {
			t.Errorf("%s: good %v, got %v", target, good, err)
		}
	}
	f("a.md", true)
	f("#fields-numbers", true)
	f("a.md#close-codes-all", true)
	f("#close-codes-all-1", true)
	f("#close-codes-all-2", false)
	f("#no-heading", false)
	f("b.md", false)
	f("b.md#fields-numbers", false)
	f("https://example.org/b.md", true)
}
