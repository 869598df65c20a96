// Package enginetest holds what tests of the engine share: a reference model
// that recomputes every statistic from the retained samples.
package enginetest
