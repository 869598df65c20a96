// Package upstreamtest is the suite that every HTTP provider client has to
// pass: a server that drops, stalls, lies and floods, and what the client has to
// make of each. Client and server talk over pipes inside a testing/synctest
// bubble, so deadlines of seconds pass at once and nothing leaves the process.
package upstreamtest
