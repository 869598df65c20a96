package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/velocimeter/velocimeter/persist/sealed"
)

func (a *app) storeKeyCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "store-key", Short: "Make a key to encrypt the store with", Args: noArguments,
		Long: "Makes a random key of 256 bits and writes its 64 hexadecimal digits. Who loses it loses the store:\n" +
			"keep a copy where the store's backups are not.\n\n" +
			"A store is encrypted from the beginning where store.key_file names a file with a key. To change the\n" +
			"key, put a new one before the old one and restart; when velocimeter_storage_old_key_files is 0 the old\n" +
			"line may go. The word plain is the key of files that are not encrypted: as the last line it lets a\n" +
			"plain store be encrypted, as the first one the other way round.",
		RunE: func(*cobra.Command, []string) error { return a.storeKey(out) },
	}
	cmd.Flags().StringVarP(&out, "out", "o", "-", "where it goes: a new `file` that only its owner can read; - is standard output")
	return cmd
}

func (a *app) storeKey(out string) error {
	text := sealed.NewKey() + "\n"
	if out == "-" {
		_, err := fmt.Fprint(a.stdout, text)
		return err
	}
	f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil { // a key that is there is never written over
		return exitWith(exitIO, fmt.Errorf("cannot write a key: %w", err))
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close(), syncFolder(out)); err != nil {
		return exitWith(exitIO, fmt.Errorf("cannot write a key: %w", err))
	}
	return nil
}

// syncFolder makes a new file's name as durable as what is in it: without the key a
// store is lost.
func syncFolder(name string) error {
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
