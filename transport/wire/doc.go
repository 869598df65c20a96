// Package wire is the stream codec: what the messages of velocimeter.v1 look
// like, byte for byte. PROTOCOL.md beside it is the normative text; the vectors
// in testdata hold one example of every message. The package keeps no state and
// starts nothing: connections and channels live in transport/fanout.
package wire

// Protocol is the version that hello tells.
const Protocol = 1

// The WebSocket sub-protocols, one for each encoding.
const (
	SubprotocolJSON   = "velocimeter.v1.json"
	SubprotocolBinary = "velocimeter.v1.bin"
)

// Limits of the protocol itself.
const (
	MaxMessage = 64 << 10 // bytes of a client message
	MaxPart    = 16 << 10 // bytes of a part of a data message
	MaxID      = 64       // characters of a message's id
	MaxTokens  = 10_000   // ids or symbols in one subscribe
	MaxRemoved = 1_000    // ids in removed; a snapshot says more in less
	MaxVerify  = 1_000    // ids in one verify
	MaxTop     = 1_000    // rows of a ranked subscription
)
