package wire

// ErrorCode names an error; the names are permanent and the table append-only.
type ErrorCode string

// The codes of error messages.
const (
	BadMessage          ErrorCode = "bad_message"
	UnknownOp           ErrorCode = "unknown_op"
	UnknownMember       ErrorCode = "unknown_member"
	BadValue            ErrorCode = "bad_value"
	NotSupported        ErrorCode = "not_supported"
	UnknownToken        ErrorCode = "unknown_token"
	UnknownSubscription ErrorCode = "unknown_subscription"
	TooMany             ErrorCode = "too_many"
	Limit               ErrorCode = "limit"
	TooFast             ErrorCode = "rate"
	Busy                ErrorCode = "busy"
)

// ErrorSpec is one row of the table of error codes.
type ErrorSpec struct {
	Code    ErrorCode
	Meaning string
}

// ErrorCodes returns the table of error codes in the order of PROTOCOL.md.
func ErrorCodes() []ErrorSpec {
	return []ErrorSpec{
		{BadMessage, "not one JSON object of known shape: syntax, duplicate key, trailing data, depth, encoding, `op` or `id` of the wrong type or length"},
		{UnknownOp, "`op` is none of this protocol"},
		{UnknownMember, "a member that this `op` does not have"},
		{BadValue, "a member is missing, has the wrong type, is out of range or contradicts another"},
		{NotSupported, "the protocol has it, this server does not serve it yet; the text says what is served"},
		{UnknownToken, "none of the asked tokens exists"},
		{UnknownSubscription, "`sub` names no subscription of this connection"},
		{TooMany, "more than 10,000 ids or symbols in one message, or 1,000 in a `verify`"},
		{Limit, "a limit told in `hello` would be exceeded"},
		{TooFast, "messages arrive too fast; this one was not read, wait `retry_ms`"},
		{Busy, "the server has no room for it now; the same may succeed after `retry_ms`"},
	}
}

// CloseCode is a WebSocket close code.
type CloseCode uint16

// The close codes that the server sends.
const (
	CloseNormal      CloseCode = 1000
	CloseGoingAway   CloseCode = 1001
	CloseProtocol    CloseCode = 1002
	CloseWrongType   CloseCode = 1003
	CloseInvalidData CloseCode = 1007
	ClosePolicy      CloseCode = 1008
	CloseTooBig      CloseCode = 1009
	CloseInternal    CloseCode = 1011
	CloseRestart     CloseCode = 1012
	CloseOverloaded  CloseCode = 1013
	CloseSlow        CloseCode = 4000
	CloseNoPong      CloseCode = 4002
	CloseRate        CloseCode = 4003
	CloseSubAbuse    CloseCode = 4504
	CloseErrors      CloseCode = 4505
)

// CloseSpec is one row of the table of close codes.
type CloseSpec struct {
	Code      CloseCode
	Reconnect bool // whether coming back with the same behaviour makes sense
	Meaning   string
}

// CloseCodes returns the table of close codes in the order of PROTOCOL.md.
func CloseCodes() []CloseSpec {
	return []CloseSpec{
		{CloseNormal, true, "the client closed"},
		{CloseGoingAway, true, "the server ends for good"},
		{CloseProtocol, false, "a frame broke RFC 6455"},
		{CloseWrongType, false, "a binary message of the client"},
		{CloseInvalidData, false, "text that is not UTF-8, or a message that does not inflate"},
		{ClosePolicy, false, "more than 10 pings or 200 pongs in a second, or a message in more than 64 fragments or 8 empty ones"},
		{CloseTooBig, false, "a message above 64 KiB"},
		{CloseInternal, true, "an error of the server's own"},
		{CloseRestart, true, "the server restarts; `drain` came before with `retry_ms`"},
		{CloseOverloaded, true, "the server is overloaded"},
		{CloseSlow, true, "the client reads too slowly"},
		{CloseNoPong, true, "no answer to a ping"},
		{CloseRate, true, "messages kept coming too fast after error `rate`"},
		{CloseSubAbuse, false, "subscriptions kept coming after error `limit`"},
		{CloseErrors, false, "five errors within a minute"},
	}
}

// RequestError is what is wrong with a client message, as the answer says it.
type RequestError struct {
	Code ErrorCode
	Text string
}

// Error returns the code and the text.
func (e *RequestError) Error() string { return string(e.Code) + ": " + e.Text }

func errorf(code ErrorCode, text string) *RequestError { return &RequestError{Code: code, Text: text} }
