package persist

import (
	"errors"

	"github.com/velocimeter/velocimeter/persist/sealed"
)

// Errors of the store.
var (
	// ErrLocked says that another process uses the data folder.
	ErrLocked = errors.New("data folder is in use by another process")
	// ErrCorrupt marks a value that does not check out.
	ErrCorrupt = errors.New("store is corrupt")
	// ErrFormat says that a newer program wrote the store.
	ErrFormat = errors.New("store has an unknown format")
	// ErrOrder says that a tick's seq is not above the one before, or not reserved.
	ErrOrder = errors.New("tick out of order")
	// ErrFatal wraps the failure after which the store takes no more writes; the
	// process must end and open the store again.
	ErrFatal = errors.New("storage failed")
	// ErrNoSpace says that history is paused because the disk is nearly full. It
	// passes by itself; seqs can still be reserved.
	ErrNoSpace = errors.New("no space for history")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("store is closed")
	// ErrAbsent says that there is no such data folder or lineage to read.
	ErrAbsent = errors.New("no such store")
	// ErrMending says that a lineage is not under its name because it is being mended,
	// or that was cut short: the next start of a server ends it.
	ErrMending = errors.New("it is being mended, or that was cut short: start the server on the data folder, which goes on with it, then try again")
	// ErrGone says that the store's folder is not where it was: what is written
	// goes nowhere.
	ErrGone = errors.New("the store's folder is gone")
	// ErrReadOnly says that the store was opened to be read only.
	ErrReadOnly = errors.New("store is open for reading only")
	// ErrKey says that Options.Keys are not those of the store: nothing was changed.
	ErrKey = sealed.ErrKey
	// ErrOptions marks options that make no sense.
	ErrOptions = errors.New("bad store options")
)
