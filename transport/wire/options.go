package wire

import (
	"bytes"
	"slices"
)

// optionNames are the members of the options object of a Socket.IO subscribe.
var optionNames = []string{"view", "fields", "rate", "digits", "numbers"}

// DecodeOptions reads the options object of a Socket.IO event into Format and
// Rate of the request: view, fields, rate, digits and numbers, with the words,
// the defaults and the errors of subscribe. Nothing, null, and members that are
// null stand for the defaults, an unknown member is an error.
func DecodeOptions(raw []byte, r *Request) *RequestError {
	d, err := decodeOptions(raw, r)
	if err == nil {
		err = d.format()
	}
	if err != nil {
		return err
	}
	rate, err := d.rate()
	if err != nil {
		return err
	}
	r.Rate = RateTick
	if rate != nil {
		r.Rate = *rate
	}
	return nil
}

func decodeOptions(raw []byte, r *Request) (*decoder, *RequestError) {
	d := &decoder{r: r}
	s := scanner{text: bytes.TrimSpace(raw)}
	if len(s.text) == 0 || string(s.text) == "null" {
		return d, nil
	}
	if s.peek() != '{' {
		return d, errorf(BadValue, "options is an object of view, fields, rate, digits, numbers")
	}
	members := s.document()
	if s.err != "" {
		return d, errorf(BadMessage, s.err)
	}
	for _, m := range members {
		if !slices.Contains(optionNames, m.name) {
			return d, errorf(UnknownMember, "unknown option "+quoted(m.name))
		}
		if string(m.value) != "null" {
			d.members = append(d.members, m)
		}
	}
	return d, nil
}
