package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist"
	"github.com/velocimeter/velocimeter/transport/admin"
)

// expect runs a command and checks how it ended.
func expect(t *testing.T, code int, want string, args ...string) outcome {
	t.Helper()
	o := runApp(t.Context(), nil, args...)
	if o.code != code || !strings.Contains(o.stdout+o.stderr, want) {
		t.Fatalf("%v: exit %d, %s%s; want %d, %q", args, o.code, o.stdout, o.stderr, code, want)
	}
	return o
}

// A backup of the running server, restored, goes on from its seq in an epoch of
// its own, and what was there is kept.
func TestBackupAndRestore(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	s := startServer(t, data, "--market-tokens", "30", "--market-tick", "50ms", "--backup-dir", filepath.Join(dir, "copies"))
	first := decode(t, s.until("/api/v1/tokens", func(code int, body string) bool {
		return code == http.StatusOK && decode(t, body).Meta.Seq > 10
	}))
	s.until("/metrics", func(_ int, body string) bool {
		_, rest, _ := strings.Cut(body, "\nvelocimeter_storage_durable_seq ")
		text, _, _ := strings.Cut(rest, "\n")
		durable, err := strconv.ParseFloat(text, 64)
		return err == nil && durable > 10
	})
	expect(t, exitTemporary, "velocimeter backup", "verify", "--data", data)
	expect(t, exitUnavailable, "--admin-listen", "backup", "--data", data, "--admin-listen", freePort(t))
	expect(t, exitUsage, "no lineage", "backup", "--data", data, "--lineage", "live-nothing")
	o := expect(t, 0, "", "backup", "--data", data, "--json", "--admin-listen", strings.TrimPrefix(s.admin, "http://"))
	var b admin.Backup
	if err := json.Unmarshal([]byte(o.stdout), &b); err != nil || b.Seq < 10 || b.Epoch != first.Meta.Epoch || filepath.Dir(b.Dir) != filepath.Join(dir, "copies") {
		t.Fatalf("backup %+v, %v", b, err)
	}
	expect(t, exitTemporary, "stop the server", "restore", b.Dir, "--data", data, "--force")
	s.until("/metrics", func(_ int, body string) bool {
		return strings.Contains(body, "\nvelocimeter_backups_total 1\n") && strings.Contains(body, fmt.Sprintf("\nvelocimeter_backup_seq %d\n", b.Seq))
	})
	s.until("/api/v1/tokens", func(_ int, body string) bool { return decode(t, body).Meta.Seq > b.Seq+20 })
	if o := s.stop(); o.code != 0 {
		t.Fatalf("exit %d: %s", o.code, o.stderr)
	}
	expect(t, 0, "sound", "verify", "--data", data)
	expect(t, 0, "backup "+b.Dir, "verify", b.Dir)
	expect(t, exitUsage, "--force", "restore", b.Dir, "--data", data)
	expect(t, 0, fmt.Sprintf("seq %d", b.Seq), "restore", b.Dir, "--data", data, "--force")
	if old, err := filepath.Glob(filepath.Join(data, "*."+b.Epoch+".old")); err != nil || len(old) != 1 {
		t.Errorf("set aside: %v, %v", old, err)
	}
	expect(t, 0, "sound", "verify", "--data", data, "--lineage", b.Lineage)
	s = startServer(t, data, "--market-tokens", "30", "--market-tick", "50ms")
	if !strings.Contains(s.errs.String(), fmt.Sprintf(`"durable_seq":%d,"next_seq":%d,"clean":true`, b.Seq, b.Seq+1)) {
		t.Errorf("restarted with: %s", s.errs.String())
	}
	m := decode(t, s.until("/api/v1/tokens", func(code int, body string) bool {
		return code == http.StatusOK && decode(t, body).Meta.Seq > b.Seq+3
	}))
	if m.Meta.Epoch == b.Epoch {
		t.Errorf("the epoch %s came again", m.Meta.Epoch)
	}
	if o := s.stop(); o.code != 0 {
		t.Fatalf("exit %d: %s", o.code, o.stderr)
	}
	expect(t, 0, "sound", "verify", "--data", data)
}

// Without a server the command copies the folder itself; a damaged copy is told
// and not restored.
func TestBackupWithoutServer(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	s := startServer(t, data, "--market-tokens", "10", "--market-tick", "50ms")
	s.until("/api/v1/tokens", func(code int, body string) bool { return code == http.StatusOK && decode(t, body).Meta.Seq > 3 })
	if o := s.stop(); o.code != 0 {
		t.Fatalf("exit %d: %s", o.code, o.stderr)
	}
	expect(t, 0, "verified", "backup", "--data", data)
	found, err := persist.Backups(nil, filepath.Join(data, "backups"), "market-42")
	if err != nil || len(found) != 1 {
		t.Fatalf("found %v, %v", found, err)
	}
	other := filepath.Join(dir, "other")
	expect(t, 0, "restored lineage market-42", "restore", found[0].Dir, "--data", other)
	logs, err := filepath.Glob(filepath.Join(found[0].Dir, "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("logs %v, %v", logs, err)
	}
	text, err := os.ReadFile(logs[0])
	if err != nil || len(text) == 0 {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(logs[0], text, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, exitData, "its checksum differs", "verify", found[0].Dir)
	expect(t, exitData, "it cannot be restored: make another", "verify", found[0].Dir)
	o := expect(t, exitData, "", "verify", "--json", found[0].Dir)
	var rep reportJSON
	if err := json.Unmarshal([]byte(o.stdout), &rep); err != nil || rep.Sound || rep.FaultCount != 1 || rep.Faults[0].Key != filepath.Base(logs[0]) {
		t.Errorf("report %s, %v", o.stdout, err)
	}
	expect(t, exitData, "corrupt", "restore", found[0].Dir, "--data", filepath.Join(dir, "third"))
}

// By the clock: so many are kept, failures are told once and end nothing.
func TestScheduledBackups(t *testing.T) {
	dir := t.TempDir()
	store, err := persist.Open(persist.Options{Dir: filepath.Join(dir, "data"), Lineage: "live"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := store.Reserve(10); err != nil {
		t.Fatal(err)
	}
	if err := store.Append(&market.Tick{Env: market.Env{Seq: 1, Now: 1_760_000_000_000}}); err != nil {
		t.Fatal(err)
	}
	var log lockedBuffer
	c := &config.Loaded{}
	c.Backup = config.Backup{Dir: filepath.Join(dir, "copies"), Every: time.Millisecond, Keep: 2}
	cut := filepath.Join(dir, "copies", "live-20260102T030405.678Z.partial")
	if err := os.MkdirAll(cut, 0o755); err != nil {
		t.Fatal(err)
	}
	b := newBackups(c, store, "live", slog.New(slog.NewTextHandler(&log, nil)))
	if _, err := os.Stat(cut); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a crash left of a backup is still there: %v", err)
	}
	b.checks = persist.Checks{}
	b.start()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for range 5000 {
		if b.finished.Load() >= 4 {
			break
		}
		<-ticker.C
	}
	if err := b.stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.prune()
	if list, err := persist.Backups(nil, c.Backup.Dir, "live"); err != nil || len(list) != 2 || b.finished.Load() < 4 || b.made.Load() != list[1].Made.UnixMilli() {
		t.Errorf("%d made, kept %v, %v", b.finished.Load(), list, err)
	}

	c.Backup.Dir = filepath.Join(dir, "file")
	if err := os.WriteFile(c.Backup.Dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b = newBackups(c, store, "live", slog.New(slog.NewTextHandler(&log, nil)))
	defer b.cancel()
	for range 3 {
		if p, err := b.make(t.Context()); err == nil {
			t.Fatalf("backup %+v", p)
		}
	}
	if !strings.Contains(log.String(), "it is a file, or lies below one; set backup.dir") {
		t.Errorf("a file is no folder: %s", log.String())
	}
	if n := strings.Count(log.String(), "backup failed"); n != 1 || b.failed.Load() != 3 || !b.failing.Load() {
		t.Errorf("%d failures were logged, %d counted:\n%s", n, b.failed.Load(), log.String())
	}
	b.cancel()
	if p, err := b.Backup(t.Context(), ""); !errors.Is(err, admin.ErrBackupStopping) {
		t.Errorf("backup %+v of a server that stops: %v", p, err)
	}
}

func TestBackupWait(t *testing.T) {
	now := time.UnixMilli(1_760_000_000_000)
	f := func(every time.Duration, made time.Time, want time.Duration) {
		t.Helper()
		b := &backups{plan: config.Backup{Every: every}}
		if !made.IsZero() {
			b.made.Store(made.UnixMilli())
		}
		if got := b.wait(now); got != want {
			t.Errorf("every %s, made %s: wait %s, want %s", every, made, got, want)
		}
	}
	f(time.Hour, time.Time{}, time.Minute)
	f(time.Second, time.Time{}, time.Second)
	f(time.Hour, now.Add(-20*time.Minute), 40*time.Minute)
	f(time.Hour, now.Add(-2*time.Hour), 0)
	f(time.Hour, now.Add(2*time.Hour), time.Hour)
}
