package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist"
)

// keepAll has a store keep all of a test's history.
var keepAll = map[string]string{
	"VELOCIMETER_STORE_KEEP_TICKS": "9000d", "VELOCIMETER_STORE_KEEP_1M": "9000d", "VELOCIMETER_STORE_KEEP_5M": "9000d", "VELOCIMETER_STORE_KEEP_1H": "9000d",
}

// exported runs an export and returns what it wrote.
func exported(t *testing.T, args ...string) string {
	t.Helper()
	o := runApp(t.Context(), keepAll, append([]string{"export"}, args...)...)
	if o.code != exitOK {
		t.Fatalf("export %q: exit %d, %s", args, o.code, o.stderr)
	}
	return o.stdout
}

// importing runs an import and looks for what it should say.
func importing(t *testing.T, code int, says string, args ...string) {
	t.Helper()
	o := runApp(t.Context(), keepAll, append([]string{"import"}, args...)...)
	if o.code != code || !strings.Contains(o.stderr, says) || o.stdout != "" {
		t.Errorf("import %q: exit %d, %s; want %d, %s", args, o.code, o.stderr, code, says)
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// pictureOf is what the files of a folder hold.
func pictureOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		files[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func samePicture(a, b map[string]string) bool {
	for name, text := range a {
		if b[name] != text {
			return false
		}
	}
	return len(a) == len(b)
}

// What one folder exports goes into another, and is exported from there as it was.
func TestImportExportRoundTrip(t *testing.T) {
	from := smallStore(t)
	for g := market.Granularity1m; g < market.NumGranularities; g++ {
		if raceDetector && g%3 != 0 {
			continue
		}
		for _, format := range []string{"csv", "ndjson"} {
			text := exported(t, "--data", from, "-g", g.String(), "--format", format)
			if strings.Count(text, "\n") < 5 {
				t.Fatalf("%s: there is nothing to import: %s", g, text)
			}
			file, into := write(t, "history", text), filepath.Join(t.TempDir(), "data")
			args := []string{file, "--data", into, "-g", g.String(), "--lineage", "other"}
			importing(t, exitData, "--create", args...)
			importing(t, exitOK, "a dry run", append(args, "--create", "--dry-run")...)
			if _, err := os.Stat(into); err == nil {
				t.Fatal("a dry run made the folder")
			}
			importing(t, exitOK, "0 already there, 0 conflicts", append(args, "--create")...)
			if again := exported(t, "--data", into, "-g", g.String(), "--format", format); again != text {
				t.Errorf("%s %s: %d bytes went in, %d came out", g, format, len(text), len(again))
			}
			if g == market.Granularity1d {
				importIntoEmpty(t, file)
			}
			before := pictureOf(t, into)
			importing(t, exitOK, "nothing had to be written", args...)
			if !samePicture(before, pictureOf(t, into)) {
				t.Errorf("%s %s: a second import changed the folder", g, format)
			}
		}
	}
}

// importIntoEmpty imports into a lineage whose first start was cut short.
func importIntoEmpty(t *testing.T, file string) {
	t.Helper()
	into := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(filepath.Join(into, "other"), 0o750); err != nil {
		t.Fatal(err)
	}
	importing(t, exitOK, " written, 0 already there", file, "--data", into, "-g", "1d", "--lineage", "other", "--create")
}

// Raw points become the minutes that they were in; a stream is read like a file.
func TestImportRawFromStream(t *testing.T) {
	from, into := smallStore(t), filepath.Join(t.TempDir(), "data")
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte(exported(t, "--data", from, "-g", "raw"))); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	done := make(chan error)
	go func() { done <- os.WriteFile(pipe, packed.Bytes(), 0o600) }()
	importing(t, exitOK, " minutes: ", pipe, "--data", into, "-g", "raw", "--lineage", "other", "--create")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, g := range []string{"1m", "1h", "1d"} {
		if exported(t, "--data", into, "-g", g) != exported(t, "--data", from, "-g", g) {
			t.Errorf("%s differs", g)
		}
	}
}

func TestImportConflictsAreTold(t *testing.T) {
	data := smallStore(t)
	text := exported(t, "--data", data, "-g", "1h", "--format", "csv")
	lines := strings.SplitAfter(text, "\r\n")
	cells := strings.Split(lines[3], ",")
	old := cells[10]
	cells[10] = "12345"
	lines[3] = strings.Join(cells, ",")
	file := write(t, "history.csv", strings.Join(lines, ""))
	before := pictureOf(t, data)
	args := []string{file, "--data", data, "-g", "1h"}
	told := file + ":4: token " + cells[0] + " at " + cells[2] + ": market_cap_last " + old + " there, 12345 in the file"
	importing(t, exitData, told, args...)
	importing(t, exitData, "--conflicts keep", args...)
	importing(t, exitOK, "nothing had to be written", append(args, "--conflicts", "keep")...)
	importing(t, exitOK, "a dry run", append(args, "--conflicts", "replace", "--dry-run")...)
	if !samePicture(before, pictureOf(t, data)) {
		t.Error("the folder was changed")
	}
	importing(t, exitOK, "1 written", append(args, "--conflicts", "replace")...)
	if got := exported(t, "--data", data, "-g", "1h", "--format", "csv"); got != strings.Join(lines, "") {
		t.Error("the row was not replaced")
	}
	cells[1] = "NONE"
	lines[3] = strings.Join(cells, ",")
	importing(t, exitOK, "token "+cells[0]+" is NONE in the file", write(t, "names.csv", lines[0]+lines[3]), "--data", data, "-g", "1h")
}

func TestImportRefuses(t *testing.T) {
	data := smallStore(t)
	text := exported(t, "--data", data, "-g", "1h", "--format", "csv")
	file := write(t, "history.csv", text)
	before := pictureOf(t, data)
	f := func(code int, says string, args ...string) {
		t.Helper()
		importing(t, code, says, append([]string{"--data", data}, args...)...)
	}
	f(exitUsage, "needs one file", "-g", "1h")
	f(exitUsage, "needs one file", "-g", "1h", file, file)
	f(exitUsage, "--granularity is needed", file)
	f(exitUsage, "--granularity", file, "-g", "2h")
	f(exitUsage, "--conflicts", file, "-g", "1h", "--conflicts", "merge")
	f(exitUsage, "name the lineage", file, "-g", "1h", "--create")
	f(exitUsage, "is not a name", file, "-g", "1h", "--lineage", "A/B")
	f(exitUsage, "unknown flag", file, "-g", "1h", "--force")
	f(exitData, "there is: small; --create", file, "-g", "1h", "--lineage", "large")
	f(exitData, "cannot open the file", filepath.Join(data, "absent"), "-g", "1h")
	f(exitData, "is a folder", data, "-g", "1h")
	f(exitData, ":2: time: ", file, "-g", "4h")
	f(exitData, "the header is of another granularity", file, "-g", "raw")
	f(exitData, "no line end", write(t, "cut.csv", text[:len(text)-9]), "-g", "1h")
	f(exitData, `unknown column "xsymbol"`, write(t, "bad.csv", strings.ReplaceAll(text, ",", ",x")), "-g", "1h")
	f(exitData, "wrong lines: 20 or more; nothing was written", write(t, "many.csv", text[:strings.Index(text, "\n")+1]+strings.Repeat("1\n", 25)), "-g", "1h")
	f(exitData, "cut.gz: the gzip file ends early, in line ", write(t, "cut.gz", gzipped(t, text)[:200]), "-g", "1h")
	f(exitOK, "every time is the beginning of a stretch of 1h", file, "-g", "1m", "--dry-run", "--conflicts", "keep")
	f(exitConfig, "log.level", file, "-g", "1h", "--log-level", "loud")
	if !samePicture(before, pictureOf(t, data)) {
		t.Error("the folder was changed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if o := runApp(ctx, keepAll, "import", file, "--data", data, "-g", "1h"); o.code != exitInterrupted {
		t.Errorf("a stop: exit %d, %s", o.code, o.stderr)
	}
	store, err := persist.Open(persist.Options{Dir: data, Lineage: "small"})
	if err != nil {
		t.Fatal(err)
	}
	f(exitTemporary, "stop its server first", file, "-g", "1h")
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// An import mends nothing where a start may not.
func TestImportStopsOnDamage(t *testing.T) {
	data := smallStore(t)
	lines := strings.SplitAfter(exported(t, "--data", data, "-g", "1h", "--format", "csv"), "\n")
	_, row, _ := strings.Cut(lines[1], ",")
	file := write(t, "history.csv", lines[0]+"999999,"+row) // a token that is not there yet
	if err := os.WriteFile(filepath.Join(data, "small", "DAMAGED"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	env := maps.Clone(keepAll)
	env["VELOCIMETER_STORE_ON_DAMAGE"] = "stop"
	before := pictureOf(t, data)
	o := runApp(t.Context(), env, "import", file, "--data", data, "-g", "1h", "--conflicts", "replace")
	if o.code != exitIO || !strings.Contains(o.stderr, "store.on_damage=mend") || !samePicture(before, pictureOf(t, data)) {
		t.Errorf("exit %d, %s", o.code, o.stderr)
	}
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
