package main

import (
	"errors"
	"fmt"
)

// Exit codes, after sysexits.h.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 64  // unknown command, flag or argument
	exitData        = 65  // an input file is not what it should be
	exitUnavailable = 69  // an address is in use
	exitIO          = 74  // the store cannot be read or written
	exitTemporary   = 75  // another process holds the data folder
	exitConfig      = 78  // the configuration is invalid
	exitInterrupted = 130 // a second signal, a second or more after the first, cut the shutdown short
)

// exitError carries the exit code that an error asks for.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// exitWith wraps err; nil stays nil.
func exitWith(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: code, err: err}
}

func usageError(format string, args ...any) error {
	return exitWith(exitUsage, fmt.Errorf(format, args...))
}

// exitCode returns the code that err asks for, 1 if it does not say.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	return exitFailure
}
