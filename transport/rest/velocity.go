package rest

import (
	"math"
	"strconv"

	"github.com/velocimeter/velocimeter/engine/market"
)

func (a *API) parseVelocity(r *request) (*plan, *fault) {
	args := parseArgs(r.query, nil)
	if f := finishArgs(args); f != nil {
		return nil, f
	}
	s, f := a.lookup(r.board, r.token)
	if f != nil {
		return nil, f
	}
	return &plan{
		key: "/velocity " + idText(s.ID), media: r.media(1), past: true,
		build: func(m *moment, out *output) *fault {
			a.appendVelocityBody(m, out, s)
			return nil
		},
	}, nil
}

// velocityParts are the members of the token object that /velocity repeats.
const velocityParts = selection(1)<<(market.FieldVelocity-1) | 1<<(market.FieldVelocityMethod-1) |
	1<<(market.FieldVelocityReason-1) | 1<<(market.FieldSymbol-1) | 1<<(market.FieldFlags-1)

func (a *API) appendVelocityBody(m *moment, out *output, s *market.Snapshot) {
	past := a.series(s.ID, m.now)
	dst := appendToken(m.appendHead(out.body), s, velocityParts|selection(trendMask))
	dst = appendExplain(append(dst[:len(dst)-1], `,"explain":`...), s)
	dst = append(dst, `,"series":[`...)
	for i := range past.Points {
		if i > 0 {
			dst = append(dst, ',')
		}
		p := &past.Points[i]
		dst = appendInstant(append(dst, `{"time":`...), p.Time)
		dst = p.Velocity.Close.AppendText(append(dst, `,"velocity":`...))
		dst = append(dst, '}')
	}
	dst = append(dst, `]}}`...)
	out.body = dst
	out.tag = pastTag(past.DurableSeq, alignUp(m.now+1, seriesGranularity.Width()))
}

func appendExplain(dst []byte, s *market.Snapshot) []byte {
	dst = s.Value(market.FieldPrice).AppendText(append(dst, `{"inputs":{"price":`...))
	dst = s.Value(market.FieldMarketCap).AppendText(append(dst, `,"market_cap":`...))
	dst = s.Value(market.FieldVolume24h).AppendText(append(dst, `,"volume_24h":`...))
	dst = s.Value(market.FieldCirculatingSupply).AppendText(append(dst, `,"circulating_supply":`...))
	dst = appendName(append(dst, `},"source":`...), s.Source().String())
	dst = append(dst, `,"rejected":[`...)
	if s.Review != nil {
		for i := range s.Review.Rejected {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendRejection(dst, &s.Review.Rejected[i])
		}
	}
	dst = appendThresholds(append(dst, `],"thresholds":`...), s)
	dst = strconv.AppendUint(append(dst, `,"samples":`...), uint64(s.Samples), 10)
	return append(dst, '}')
}

func appendRejection(dst []byte, r *market.Rejection) []byte {
	dst = appendTime(append(dst, `{"time":`...), r.Time)
	if r.Field == 0 {
		dst = append(dst, `,"field":null`...) // the whole poll
	} else {
		dst = appendName(append(dst, `,"field":`...), r.Field.String())
	}
	dst = r.Value.AppendText(append(dst, `,"value":`...))
	dst = appendName(append(dst, `,"rule":`...), r.Rule.String())
	dst = appendName(append(dst, `,"source":`...), r.Source.String())
	return append(dst, '}')
}

// The constants of the level rule (fields.md, Formulas).
const (
	levelFactor  = 10
	levelMinimum = 0.5
	minSamples   = 8
)

// appendThresholds prints what values are measured against. A rule is off, and
// says so, while the token has too few samples; a limit is null where the token
// was never measured against it, for nothing was ever rejected.
func appendThresholds(dst []byte, s *market.Snapshot) []byte {
	reference, steps := math.NaN(), [3]float64{math.NaN(), math.NaN(), math.NaN()}
	active := s.Samples >= minSamples
	if s.Review != nil {
		reference, steps = s.Review.LevelReference, s.Review.StepLimit
		active = !math.IsNaN(reference)
	}
	limit := math.Max(levelFactor*reference, levelMinimum)
	dst = strconv.AppendBool(append(dst, `{"level":{"active":`...), active)
	dst = finite(reference, 7).AppendText(append(dst, `,"reference":`...))
	dst = append(dst, `,"factor":10,"minimum":0.5,"limit":`...)
	dst = finite(limit, 7).AppendText(dst)
	dst = append(dst, `,"minimum_samples":8},"step":{"price":`...)
	dst = finite(steps[0], 7).AppendText(dst)
	dst = finite(steps[1], 7).AppendText(append(dst, `,"market_cap":`...))
	dst = finite(steps[2], 7).AppendText(append(dst, `,"volume_24h":`...))
	return append(dst, `}}`...)
}
