package simulator

import (
	"strconv"
	"strings"

	"github.com/velocimeter/velocimeter/engine/market"
)

// fault is an error of the API: what is wrong with a request.
type fault struct {
	http    int
	code    int
	message string
	notice  string // "" for none
}

const (
	noticeMonth = "You have used 100% of your plan's monthly credit limit."
	noticeDay   = "You have used 100% of your plan's daily credit limit."
)

// The faults that do not depend on parameters, in CoinMarketCap's words.
var (
	faultKeyInvalid   = &fault{http: 401, code: 1001, message: "This API Key is invalid."}
	faultKeyMissing   = &fault{http: 401, code: 1002, message: "API key missing."}
	faultNotActivated = &fault{http: 402, code: 1003, message: "Your API Key must be activated. Please go to pro.coinmarketcap.com/account/plan."}
	faultExpired      = &fault{http: 402, code: 1004, message: "Your API Key's subscription plan has expired."}
	faultKeyRequired  = &fault{http: 403, code: 1005, message: "An API Key is required for this call."}
	faultPlan         = &fault{http: 403, code: 1006, message: "Your API Key subscription plan doesn't support this endpoint."}
	faultDisabled     = &fault{http: 403, code: 1007, message: "This API Key has been disabled. Please contact support."}
	faultMinute       = &fault{http: 429, code: 1008, message: "You've exceeded your API Key's HTTP request rate limit. Rate limits reset every minute."}
	faultDay          = &fault{http: 429, code: 1009, message: "You've exceeded your API Key's daily rate limit.", notice: noticeDay}
	faultMonth        = &fault{
		http: 429, code: 1010, notice: noticeMonth,
		message: "You've exceeded your API Key's monthly credit limit. Please contact us at api@coinmarketcap.com if you need assistance upgrading your plan.",
	}
	faultAddress  = &fault{http: 429, code: 1011, message: "You've hit an IP rate limit."}
	faultInternal = &fault{http: 500, code: 500, message: "An internal server error occurred"}
)

// badRequest is a 400 about a parameter.
func badRequest(parts ...string) *fault {
	return &fault{http: 400, code: 400, message: strings.Join(parts, "")}
}

// outcome is what the status object of an answer says.
type outcome struct {
	now     market.Time
	elapsed market.Millis
	version int
	fault   *fault // nil on success
	credits int
	notice  string
	total   int // status.total_count; below 0 where there is none
}

// appendStatus appends the "status" member. error_code is a string from v3 on.
func (o *outcome) appendStatus(dst []byte) []byte {
	code, text := 0, "null"
	if o.fault != nil {
		code, text = o.fault.code, quoteJSON(o.fault.message)
	}
	dst = append(dst, `"status":{"timestamp":"`...)
	dst = o.now.AppendRFC3339(dst)
	dst = append(dst, `","error_code":`...)
	if o.version >= 3 {
		dst = append(strconv.AppendInt(append(dst, '"'), int64(code), 10), '"')
	} else {
		dst = strconv.AppendInt(dst, int64(code), 10)
	}
	dst = append(append(dst, `,"error_message":`...), text...)
	dst = strconv.AppendInt(append(dst, `,"elapsed":`...), int64(o.elapsed), 10)
	dst = strconv.AppendInt(append(dst, `,"credit_count":`...), int64(o.credits), 10)
	switch {
	case o.notice != "":
		dst = append(append(dst, `,"notice":`...), quoteJSON(o.notice)...)
	case o.fault == nil:
		dst = append(dst, `,"notice":null`...)
	}
	if o.total >= 0 {
		dst = strconv.AppendInt(append(dst, `,"total_count":`...), int64(o.total), 10)
	}
	return append(dst, '}')
}

// quoteJSON is a JSON string literal. Names may hold any UTF-8 text.
func quoteJSON(s string) string {
	const hex = "0123456789abcdef"
	b := make([]byte, 0, len(s)+2)
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = append(b, string(r)...)
		}
	}
	return string(append(b, '"'))
}
