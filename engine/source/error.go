package source

import (
	"strconv"
	"strings"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Kind classes a failed fetch by what can be done about it.
type Kind uint8

// The kinds of failures.
const (
	KindUnknown        Kind = iota
	KindAuth                // the key is missing, wrong, disabled or not allowed (1001, 1002, 1005, 1006, 1007)
	KindPlan                // the plan is not paid or not active (1003, 1004)
	KindRateMinute          // requests of this minute are spent (1008)
	KindRateDay             // credits of this day are spent (1009)
	KindRateMonth           // credits of this month are spent (1010)
	KindRateIP              // too many requests from this address (1011)
	KindBadRequest          // the provider refuses the request itself
	KindServer              // the provider is ill (5xx)
	KindTimeout             // a deadline passed
	KindNetwork             // no connection, or it broke
	KindInvalidPayload      // the answer is not what was promised
	KindTooLarge            // the answer is above the size limit
	numKinds
)

var kindNames = [numKinds]string{
	"unknown", "auth", "plan", "rate_minute", "rate_day", "rate_month", "rate_ip",
	"bad_request", "server", "timeout", "network", "invalid_payload", "too_large",
}

// String returns the kind's name, fit for a log field or a metric label.
func (k Kind) String() string {
	if k < numKinds {
		return kindNames[k]
	}
	return kindNames[KindUnknown]
}

// Error is why a fetch failed. It never holds a key, a URL or a request.
type Error struct {
	Kind Kind
	// RetryAfter is what the provider asked for; 0 when it did not.
	RetryAfter market.Millis
	Status     int // HTTP status; 0 when there was no answer
	Code       int // the provider's own error code; 0 when there was none
	// Detail says what happened in bounded, printable text.
	Detail string
}

// Error returns one line such as "rate_day: status 429, code 1009: daily limit".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Kind.String())
	sep := ": "
	add := func(name string, n int) {
		if n != 0 {
			b.WriteString(sep + name + strconv.Itoa(n))
			sep = ", "
		}
	}
	add("status ", e.Status)
	add("code ", e.Code)
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	return b.String()
}

// Classify returns the kind of a refusal, given the HTTP status and the
// CoinMarketCap error code (0 where the body had none). The code is asked
// first: four limits with four different ends share status 429. An answer that
// refuses nothing (status 200, code 0) is KindUnknown.
func Classify(status, code int) Kind {
	if k := classifyCode(code); k != KindUnknown {
		return k
	}
	switch {
	case status == 401, status == 403:
		return KindAuth
	case status == 402:
		return KindPlan
	case status == 408:
		return KindTimeout
	case status == 429:
		return KindRateMinute
	case status >= 400 && status < 500:
		return KindBadRequest
	case status >= 500:
		return KindServer
	case status >= 300 && status < 400:
		return KindInvalidPayload
	}
	if code != 0 {
		return KindServer // an unknown code on a good status: treat as an ill server
	}
	return KindUnknown
}

func classifyCode(code int) Kind {
	switch code {
	case 1001, 1002, 1005, 1006, 1007:
		return KindAuth
	case 1003, 1004:
		return KindPlan
	case 1008:
		return KindRateMinute
	case 1009:
		return KindRateDay
	case 1010:
		return KindRateMonth
	case 1011:
		return KindRateIP
	case 400, 4001, 4002:
		return KindBadRequest
	case 500:
		return KindServer
	}
	return KindUnknown
}
