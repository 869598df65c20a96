// Package source is the state machine of one provider: when its next answer is
// due, and how long to stay away after each class of failure. It is pure: time
// and randomness are parameters, and the caller does the fetching.
package source
