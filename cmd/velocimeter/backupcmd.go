package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
	"github.com/velocimeter/velocimeter/persist"
	"github.com/velocimeter/velocimeter/transport/admin"
)

func (a *app) backupCommand() *cobra.Command {
	var lineage string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "backup", Short: "Copy the store and verify the copy; the running server is asked to, and goes on",
		Long: "Asks the server that has the data folder for a backup, at its admin listener and into its own\n" +
			"backup.dir; where no server has it, copies the lineages in the folder itself. Every copy is verified\n" +
			"before it gets its name. Exit code: 64 when there is no such lineage, 69 when the server does not\n" +
			"answer, 74 when it cannot be made, 75 when one is being made already or the server stops, 78 where a\n" +
			"folder cannot be written to or the keys are not those of the store.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load(cmd, config.StoreTool|config.BackupTool)
			if err != nil {
				return err
			}
			return a.backup(cmd.Context(), c, lineage, asJSON)
		},
	}
	addSettings(cmd, config.StoreTool|config.BackupTool)
	cmd.Flags().StringVar(&lineage, "lineage", "", "`name` of the only lineage to back up; all of the data folder, or the served one, if not given")
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line for each backup instead of text")
	return cmd
}

func (a *app) backup(ctx context.Context, c *config.Loaded, lineage string, asJSON bool) error {
	dirs, err := lineageDirs(c.Data, lineage)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		var made *admin.Backup
		o := persist.Options{Dir: c.Data, Lineage: filepath.Base(dir), Logger: a.logger(c.Log), Keys: c.StoreKeys}
		p, err := persist.BackupLineage(ctx, o, backupDir(c), storeChecks(c))
		served := errors.Is(err, persist.ErrLocked)
		switch {
		case served:
			made, err = askBackup(ctx, c, lineage)
		case err == nil:
			made = shownBackup(p)
		case errors.Is(err, persist.ErrKey):
			err = exitWith(exitConfig, err)
		case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR):
			err = exitWith(exitConfig, err)
		default:
			err = exitWith(exitIO, err)
		}
		if err == nil {
			err = a.tellBackup(made, asJSON)
		}
		if err != nil || served { // a server has one lineage, and the others are not to be had
			return err
		}
	}
	return nil
}

func (a *app) tellBackup(b *admin.Backup, asJSON bool) error {
	var err error
	if asJSON {
		err = json.NewEncoder(a.stdout).Encode(b)
	} else {
		took := time.Duration(b.TookMs) * time.Millisecond
		_, err = fmt.Fprintf(a.stdout, "%s: verified, lineage %s, seq %d, %d bytes, in %s\n", b.Dir, b.Lineage, b.Seq, b.Bytes, took)
	}
	return exitWith(exitIO, err)
}

// askBackup asks the running server for a backup and waits for it.
func askBackup(ctx context.Context, c *config.Loaded, lineage string) (*admin.Backup, error) {
	host, port, err := net.SplitHostPort(c.AdminListen)
	if err != nil {
		return nil, exitWith(exitConfig, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	at := url.URL{Scheme: "http", Host: net.JoinHostPort(host, port), Path: "/backup"}
	if lineage != "" {
		at.RawQuery = url.Values{"lineage": {lineage}}.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), nil)
	if err != nil {
		return nil, exitWith(exitConfig, err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, exitWith(exitUnavailable, fmt.Errorf("cannot ask the server for a backup: it has the data folder %q and does not answer at %s: %w; --admin-listen says where its admin listener is", c.Data, at.Host, err))
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode == http.StatusOK {
		b := &admin.Backup{}
		if err = json.Unmarshal(body, b); err == nil {
			return b, nil
		}
	}
	if err != nil {
		return nil, exitWith(exitIO, fmt.Errorf("cannot read the server's answer: %w", err))
	}
	code := exitIO
	if resp.StatusCode == http.StatusConflict || resp.StatusCode == http.StatusServiceUnavailable {
		code = exitTemporary
	}
	return nil, exitWith(code, fmt.Errorf("cannot make a backup: the server answered %s: %s", resp.Status, problemText(body)))
}

// problemText takes what a person reads out of a problem document.
func problemText(body []byte) string {
	var p struct{ Detail, Remediation string }
	if err := json.Unmarshal(body, &p); err != nil || p.Detail == "" {
		return fmt.Sprintf("%.200q", body)
	}
	return p.Detail + "; " + p.Remediation
}

func (a *app) restoreCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "restore BACKUP", Short: "Verify a backup and put it into the data folder as its lineage",
		Long: "The lineage gets a new epoch: clients that resume get a snapshot. One that is there already is set\n" +
			"aside, with --force, and never deleted. Ended halfway, it leaves the lineage as it was, or the next\n" +
			"start of the server puts the restored one in place. Exit code: 64 when the lineage exists, 65 when the\n" +
			"backup is damaged or none, 74 when it cannot be written, 75 while a server has the folder, 78 where the\n" +
			"folder cannot be written to or the keys are not those of the backup.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError("%s needs one backup; `%s --help` shows how", cmd.CommandPath(), cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.load(cmd, config.StoreTool)
			if err != nil {
				return err
			}
			r, err := persist.Restore(cmd.Context(), args[0], persist.Options{Dir: c.Data, Fresh: force, Logger: a.logger(c.Log), Keys: c.StoreKeys}, storeChecks(c))
			if err != nil {
				return restoreError(err)
			}
			if r.Aside != "" {
				_, err = fmt.Fprintf(a.stdout, "the lineage that was there is now %s\n", r.Aside)
			}
			_, e := fmt.Fprintf(a.stdout, "restored lineage %s in %s: seq %d, epoch %s\n", r.Lineage, c.Data, r.Seq, r.Epoch)
			return exitWith(exitIO, errors.Join(err, e))
		},
	}
	addSettings(cmd, config.StoreTool)
	cmd.Flags().BoolVar(&force, "force", false, "replace a lineage that exists; it is set aside")
	return cmd
}

func restoreError(err error) error {
	switch {
	case errors.Is(err, persist.ErrLocked):
		return exitWith(exitTemporary, fmt.Errorf("%w; stop the server first", err))
	case errors.Is(err, persist.ErrExists):
		return exitWith(exitUsage, err)
	case errors.Is(err, persist.ErrKey):
		return exitWith(exitConfig, err)
	case errors.Is(err, persist.ErrCorrupt), errors.Is(err, persist.ErrNoBackup), errors.Is(err, persist.ErrFormat), errors.Is(err, fs.ErrNotExist):
		return exitWith(exitData, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR):
		return exitWith(exitConfig, fmt.Errorf("%w; the backup has to be readable, and data a folder that can be written to", err))
	case errors.Is(err, syscall.ENOSPC):
		return exitWith(exitIO, fmt.Errorf("%w; make room in the data folder and repeat: the lineage that is there is as it was", err))
	}
	return exitWith(exitIO, err)
}
