package gate

import (
	"strconv"

	"github.com/valyala/fasthttp"
)

// ProblemType is the media type of every error answer.
const ProblemType = "application/problem+json"

// ParamError names one parameter of a request and what is wrong with it.
type ParamError struct {
	Param  string
	Reason string
}

// Problem answers the request with an RFC 9457 problem. code is the stable
// machine name (snake case), detail says what happened in this request,
// remediation what the client can do. A body and its validators that the handler
// had already set are dropped; other headers stay.
func Problem(ctx *fasthttp.RequestCtx, status int, code, detail, remediation string, errs ...ParamError) {
	ctx.Response.ResetBody()
	ctx.Response.Header.Del("Content-Encoding")
	ctx.Response.Header.Del("ETag")
	ctx.Response.Header.Del("Age")
	ctx.SetStatusCode(status)
	ctx.Response.Header.SetContentType(ProblemType)
	ctx.Response.Header.Set("Cache-Control", "no-store")
	ctx.SetBody(appendProblem(nil, status, code, detail, remediation, RequestID(ctx), errs))
}

func appendProblem(dst []byte, status int, code, detail, remediation, instance string, errs []ParamError) []byte {
	dst = append(dst, `{"type":`...)
	dst = appendString(dst, "/problems/"+code)
	dst = append(dst, `,"title":`...)
	dst = appendString(dst, fasthttp.StatusMessage(status))
	dst = append(dst, `,"status":`...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, `,"detail":`...)
	dst = appendString(dst, detail)
	dst = append(dst, `,"instance":`...)
	dst = appendString(dst, instance)
	dst = append(dst, `,"code":`...)
	dst = appendString(dst, code)
	dst = append(dst, `,"remediation":`...)
	dst = appendString(dst, remediation)
	if len(errs) > 0 {
		dst = append(dst, `,"errors":[`...)
		for i, e := range errs {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, `{"param":`...)
			dst = appendString(dst, e.Param)
			dst = append(dst, `,"reason":`...)
			dst = appendString(dst, e.Reason)
			dst = append(dst, '}')
		}
		dst = append(dst, ']')
	}
	return append(dst, "}\n"...)
}
