// Package packet has the codecs of Socket.IO: payloads and packets of Engine.IO 4
// and, in its messages, packets of Socket.IO protocol 5. Decoders are strict and
// bounded: what a client may not send is an error, and none panics. Encoders append
// to a buffer. Nothing here knows a connection.
package packet
