package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist"
	"github.com/velocimeter/velocimeter/transport/admin"
)

// firstBackup is how long a server waits that finds no backup of its lineage.
const firstBackup = time.Minute

// backups makes backups of the running store, when asked and by the clock.
// Nothing that happens to them touches the service.
type backups struct {
	store   *persist.Store
	lineage string
	dir     string
	plan    config.Backup
	checks  persist.Checks
	log     *slog.Logger
	ctx     context.Context
	cancel  context.CancelFunc
	done    chan struct{} // nil while nothing runs by the clock

	made, took, bytes     atomic.Int64 // of the newest: ms since 1970, ns, bytes
	seq, finished, failed atomic.Uint64
	failing               atomic.Bool
}

func newBackups(c *config.Loaded, store *persist.Store, lineage string, log *slog.Logger) *backups {
	b := &backups{store: store, lineage: lineage, dir: backupDir(c), plan: c.Backup, checks: storeChecks(c), log: log}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	list, err := persist.Backups(nil, b.dir, lineage)
	if err == nil {
		err = persist.TidyBackups(nil, b.dir, lineage)
	}
	if err != nil {
		log.Warn("cannot look after the backups", "error", err)
	}
	if n := len(list); n > 0 {
		b.note(&list[n-1])
	}
	return b
}

// backupDir is the folder of the backups.
func backupDir(c *config.Loaded) string {
	if c.Backup.Dir != "" {
		return c.Backup.Dir
	}
	return filepath.Join(c.Data, "backups")
}

func (b *backups) note(p *persist.Backup) {
	b.made.Store(p.Made.UnixMilli())
	b.took.Store(int64(p.Took))
	b.bytes.Store(p.Bytes)
	b.seq.Store(p.Seq)
}

// start begins to make backups by the clock, where that is configured.
func (b *backups) start() {
	if b.plan.Every == 0 {
		return
	}
	b.done = make(chan struct{})
	go b.run()
}

func (b *backups) run() {
	defer close(b.done)
	timer := time.NewTimer(b.wait(time.Now()))
	defer timer.Stop()
	for {
		select {
		case <-b.ctx.Done():
			return
		case <-timer.C:
		}
		if _, err := b.make(b.ctx); err == nil {
			b.prune()
		}
		timer.Reset(b.plan.Every)
	}
}

// wait is how long the first one has time: a restart does not put it off.
func (b *backups) wait(now time.Time) time.Duration {
	made := b.made.Load()
	if made == 0 {
		return min(b.plan.Every, firstBackup)
	}
	return min(max(time.UnixMilli(made).Add(b.plan.Every).Sub(now), 0), b.plan.Every)
}

// stop ends the one that is being made and waits until it is gone.
func (b *backups) stop(ctx context.Context) error {
	b.cancel()
	if b.done == nil {
		return nil
	}
	select {
	case <-b.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// make makes one. The first of several failures is logged, all are counted.
func (b *backups) make(ctx context.Context) (*persist.Backup, error) {
	p, err := b.store.Backup(ctx, b.dir, b.checks)
	switch {
	case errors.Is(err, persist.ErrBusy), err != nil && b.ctx.Err() != nil:
		return nil, err
	case err != nil:
		b.failed.Add(1)
		if b.failing.CompareAndSwap(false, true) {
			b.log.Error("backup failed; the service goes on, further failures are counted only", "dir", b.dir, "error", err)
		}
		return nil, err
	}
	b.finished.Add(1)
	b.failing.Store(false)
	b.note(p)
	b.log.Info("backup made and verified", "dir", p.Dir, "seq", p.Seq, "bytes", p.Bytes, "took_ms", p.Took.Milliseconds())
	return p, nil
}

func (b *backups) prune() {
	gone, err := persist.Prune(nil, b.dir, b.lineage, b.plan.Keep, b.plan.MaxAge, time.Now())
	for _, dir := range gone {
		b.log.Info("old backup removed", "dir", dir)
	}
	if err != nil {
		b.log.Warn("cannot remove old backups", "error", err)
	}
}

// Backup implements the admin listener's port. The request's own end does not
// end the backup: the answer may be lost, the work need not be.
func (b *backups) Backup(_ context.Context, lineage string) (*admin.Backup, error) {
	if lineage != "" && lineage != b.lineage {
		return nil, fmt.Errorf("%w: %s", admin.ErrBackupLineage, b.lineage)
	}
	p, err := b.make(b.ctx)
	if errors.Is(err, persist.ErrBusy) {
		return nil, admin.ErrBackupBusy
	}
	if err != nil && b.ctx.Err() != nil {
		return nil, admin.ErrBackupStopping
	}
	if err != nil {
		return nil, err
	}
	return shownBackup(p), nil
}

func shownBackup(p *persist.Backup) *admin.Backup {
	dir, err := filepath.Abs(p.Dir)
	if err != nil {
		dir = p.Dir
	}
	return &admin.Backup{
		Dir: dir, Lineage: p.Lineage, Epoch: p.Epoch, Seq: p.Seq, Time: market.Time(p.Time).Std(), Made: p.Made,
		Records: p.Records, Bytes: p.Bytes, TookMs: p.Took.Milliseconds(),
	}
}
