// Package quality decides what is believed: whether a whole answer of a
// provider is fit for use (Gate), and for one token which values are outliers,
// out of range or stale. Everything here is a pure value: no clock, no I/O, and
// the state of every rule can be saved and restored to the bit. The rules and
// their thresholds are those of engine/FIELDS.md; what that leaves open is decided in
// engine/ARCHITECTURE.md.
package quality
