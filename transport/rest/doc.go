// Package rest answers the HTTP routes of /api/v1 from immutable boards, and
// /healthz, /readyz and /version.
//
// A body is encoded at most once a tick and once a second for one normalised
// query, kept raw and compressed in a bounded cache, and handed to every
// request that asks the same. Parameters are strict: what is unknown, repeated,
// malformed or out of range is refused with the allowed range, never clamped.
package rest
