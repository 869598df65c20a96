// Package ws is the WebSocket end of the stream: the upgrade with its checks,
// our own strict gate for client frames, and the bytes in and out of each
// connection. What is sent is decided by transport/fanout; a connection here is
// its Link. Two goroutines serve a connection, both guarded: a panic ends that
// connection with 1011 and nothing else.
package ws
