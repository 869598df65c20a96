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
	from, _, _ := lately(m.now, seriesSpan, seriesGranularity)
	out.tag = pastTag(past.DurableSeq, from)
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
	dst = strconv.AppendInt(append(dst, `],"rejected_kept":`...), market.MaxRejections, 10)
	dst = appendThresholds(append(dst, `,"thresholds":`...), s)
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

// The constants of the rules (engine/FIELDS.md, Formulas), as the answer names them.
const (
	levelFactor  = 10
	levelMinimum = 0.5
	minSamples   = 8
)

// Least thresholds of a step, |ln| of the ratio to the value before.
var (
	stepMinimum       = math.Log(1.1)
	stepMinimumVolume = math.Log(1.5)
)

// appendThresholds prints what values are measured against. The rules work
// whether or not anything was rejected ("state"), but what a token's values are
// measured against is computed only when one is rejected: so reference and
// limits are as of the newest such rejection ("as_of"), and null before the
// first one. While a level outlier lasts, that is now.
func appendThresholds(dst []byte, s *market.Snapshot) []byte {
	reference, steps := math.NaN(), [3]float64{math.NaN(), math.NaN(), math.NaN()}
	if s.Review != nil {
		reference, steps = s.Review.LevelReference, s.Review.StepLimit
	}
	asOf, level := lastMeasured(s)
	dst = appendTime(append(dst, `{"as_of":`...), asOf)
	dst = strconv.AppendInt(append(dst, `,"minimum_samples":`...), minSamples, 10)
	dst = appendName(append(dst, `,"level":{"state":`...), stateOf(s, level))
	dst = finite(reference, 7).AppendText(append(dst, `,"reference":`...))
	dst = strconv.AppendInt(append(dst, `,"factor":`...), levelFactor, 10)
	dst = finite(levelMinimum, 7).AppendText(append(dst, `,"minimum":`...))
	dst = finite(math.Max(levelFactor*reference, levelMinimum), 7).AppendText(append(dst, `,"limit":`...))
	dst = appendName(append(dst, `},"step":{"state":`...), stateOf(s, false))
	dst = appendInputs(append(dst, `,"minimum":`...), [3]float64{stepMinimum, stepMinimum, stepMinimumVolume})
	dst = appendInputs(append(dst, `,"limit":`...), steps)
	return append(dst, `}}`...)
}

func appendInputs(dst []byte, values [3]float64) []byte {
	dst = finite(values[0], 7).AppendText(append(dst, `{"price":`...))
	dst = finite(values[1], 7).AppendText(append(dst, `,"market_cap":`...))
	dst = finite(values[2], 7).AppendText(append(dst, `,"volume_24h":`...))
	return append(dst, '}')
}

// stateOf tells whether a rule works on the token.
func stateOf(s *market.Snapshot, outlier bool) string {
	switch {
	case outlier:
		return "outlier"
	case s.Samples < minSamples:
		return "off"
	}
	return "watching"
}

// lastMeasured returns when a step or level rule last rejected a value, 0 where
// none is known, and whether the level rule rejects the value that is shown.
func lastMeasured(s *market.Snapshot) (at market.Time, level bool) {
	if s.Review == nil {
		return 0, false
	}
	for _, r := range s.Review.Rejected {
		if r.Rule != market.RuleStep && r.Rule != market.RuleLevel {
			continue
		}
		at = max(at, r.Time)
		level = level || r.Rule == market.RuleLevel && r.Time == s.SourceTime() && s.Flags()&market.FlagOutlierVolume != 0
	}
	return at, level
}
