package rest

import (
	"strconv"

	"github.com/velocimeter/velocimeter/engine/market"
)

func (a *API) parseSchema(r *request) (*plan, *fault) {
	args := parseArgs(r.query, nil)
	if f := finishArgs(args); f != nil {
		return nil, f
	}
	return &plan{key: "/schema", media: r.media(1), build: func(m *moment, out *output) *fault {
		out.body = append(appendSchema(m.appendHead(out.body)), '}')
		return nil
	}}, nil
}

// schemaVersion changes when a field is added; ids never change meaning.
const schemaVersion = 1

func appendSchema(dst []byte) []byte {
	dst = strconv.AppendInt(append(dst, `{"version":`...), schemaVersion, 10)
	dst = append(dst, `,"fields":[`...)
	for i := range market.Specs() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendSpec(dst, &market.Specs()[i])
	}
	dst = append(dst, `],"flags":`...)
	dst = appendNames(dst, market.FlagNames())
	return append(appendEnums(append(dst, `,"enums":{`...)), `}}`...)
}

func appendSpec(dst []byte, s *market.Spec) []byte {
	dst = strconv.AppendUint(append(dst, `{"id":`...), uint64(s.Field), 10)
	dst = appendName(append(dst, `,"name":`...), s.Name)
	dst = appendName(append(dst, `,"rest":`...), s.REST)
	dst = appendName(append(dst, `,"type":`...), s.Kind.String())
	dst = appendName(append(dst, `,"unit":`...), s.Unit)
	dst = append(dst, `,"scale":`...)
	if s.Kind == market.KindDecimal && s.Scale != market.ScaleAsProvider {
		dst = strconv.AppendInt(dst, int64(s.Scale), 10)
	} else {
		dst = append(dst, "null"...)
	}
	dst = append(dst, `,"views":[`...)
	first := true
	for _, v := range [...]market.View{market.ViewQuote, market.ViewVelocity, market.ViewFull} {
		if !s.Views.Has(v) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendName(dst, v.String())
	}
	return append(dst, `]}`...)
}

// appendEnums lists each enum field's names by number; null where a number
// means "none".
func appendEnums(dst []byte) []byte {
	first := true
	for i := range market.Specs() {
		s := &market.Specs()[i]
		names := market.EnumNames(s.Field)
		if names == nil {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendNames(append(appendName(dst, s.Name), ':'), names)
	}
	return dst
}

func appendNames(dst []byte, names []string) []byte {
	dst = append(dst, '[')
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendName(dst, name)
	}
	return append(dst, ']')
}
