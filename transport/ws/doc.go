// Package ws is the WebSocket end of the stream: the upgrade with its checks,
// our own strict gate for client frames, compression, and the frames in and out
// of each connection. What is sent is decided by transport/fanout; a connection
// here is its Link. Bytes and time are transport/fanout/loop's: an idle connection has no
// goroutine and no buffer. A panic ends its connection with 1011 and nothing else.
// Other protocols above WebSocket have all of it but the compression by an Acceptor.
package ws
