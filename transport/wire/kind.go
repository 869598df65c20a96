package wire

// Encoding is how the data messages of a connection are written.
type Encoding uint8

// The encodings: one for each sub-protocol.
const (
	EncodingJSON Encoding = iota
	EncodingBinary
)

var encodingNames = [...]string{"json", "binary"}

// String returns the name that effective tells.
func (e Encoding) String() string { return encodingNames[e] }

// Kind tells server messages apart, for framings that name or mark them.
type Kind uint8

// The kinds. Whatever answers an op or comes once is KindAnswer.
const (
	KindAnswer Kind = iota
	KindSnapshot
	KindDelta
	KindHeartbeat // of a connection or of a channel
	KindStale
	KindDrain
	KindSubscribed
	KindError
	KindEffective
)

var kindNames = [...]string{"answer", "snapshot", "delta", "heartbeat", "stale", "drain", "subscribed", "error", "effective"}

// String returns the type member of such messages; "answer" for the others.
func (k Kind) String() string { return kindNames[k] }
