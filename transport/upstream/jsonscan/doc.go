// Package jsonscan reads hostile JSON strictly and without allocation: one pass
// over bytes in memory, values handed out as the text they were written in, so
// that a number never passes through binary floating point.
//
// It accepts exactly RFC 8259 in UTF-8 without byte order mark, one value and
// nothing after it, no deeper than a limit. NaN, Infinity, comments, trailing
// commas, control characters in strings, lone surrogates and invalid UTF-8 are
// errors with the offset at which they stand.
package jsonscan
