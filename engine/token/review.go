package token

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
)

var inputFields = [quality.NumInputs]market.Field{
	quality.Price: market.FieldPrice, quality.Cap: market.FieldMarketCap, quality.Volume: market.FieldVolume24h,
}

// review records why a sample was kept out, with the limits it met.
func (t *Token) review(d *draft, s *sample) {
	var added [quality.NumInputs + 1]market.Rejection
	n := 0
	for i, f := range inputFields {
		rule := market.RuleStep
		if i == quality.Volume && s.level {
			rule = market.RuleLevel
		} else if s.jumped>>i&1 == 0 {
			continue
		}
		added[n] = market.Rejection{Time: d.time, Field: f, Value: d.snap.Value(f), Rule: rule, Source: d.env.Source}
		n++
	}
	t.note(d, added[:n])
	t.limits(d.snap.Review)
}

// refuse records the members that are below zero.
func (t *Token) refuse(d *draft) {
	var added []market.Rejection
	for f := range d.negative.Fields() {
		added = append(added, market.Rejection{Time: d.time, Field: f, Value: valueOf(d.q, f), Rule: market.RuleRange, Source: d.env.Source})
		t.counts.Range++
	}
	t.note(d, added)
}

func valueOf(q *market.Quote, f market.Field) market.Decimal {
	switch f {
	case market.FieldPrice:
		return q.Price
	case market.FieldMarketCap:
		return q.MarketCap
	case market.FieldVolume24h:
		return q.Volume24h
	case market.FieldCirculatingSupply:
		return q.CirculatingSupply
	case market.FieldTotalSupply:
		return q.TotalSupply
	case market.FieldMaxSupply:
		return q.MaxSupply
	case market.FieldFullyDilutedMarketCap:
		return q.FullyDiluted
	default:
		return market.Null
	}
}

// note gives the draft a new review with the rejections in front of the old ones.
func (t *Token) note(d *draft, added []market.Rejection) {
	was := d.snap.Review
	if was == nil {
		was = &market.Review{LevelReference: math.NaN(), StepLimit: [quality.NumInputs]float64{math.NaN(), math.NaN(), math.NaN()}}
	}
	is := &market.Review{LevelReference: was.LevelReference, StepLimit: was.StepLimit}
	is.Rejected = make([]market.Rejection, min(len(was.Rejected)+len(added), market.MaxRejections))
	copy(is.Rejected[copy(is.Rejected, added):], was.Rejected)
	d.snap.Review = is
}

// limits sets what the rules measure against.
func (t *Token) limits(r *market.Review) {
	r.LevelReference = t.level.Reference(&t.win, t.cfg)
	for i := range t.steps {
		r.StepLimit[i] = t.steps[i].Limit(i, t.cfg)
	}
}
