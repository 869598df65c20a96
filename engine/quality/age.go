package quality

import "github.com/velocimeter/velocimeter/engine/market"

// Freshness classes the age of a value: up to FreshFactor cadences is fresh, up
// to AgingFactor aging, older stale. A cadence that is not positive counts as a
// minute.
func (c *Config) Freshness(age, cadence market.Millis) market.Freshness {
	fresh, aging := c.ages(cadence)
	switch {
	case age <= fresh:
		return market.Fresh
	case age <= aging:
		return market.Aging
	}
	return market.Stale
}

// NextFreshness returns the instant at which a value of time t that is of the
// given class changes it; 0 for a stale one.
func (c *Config) NextFreshness(t market.Time, class market.Freshness, cadence market.Millis) market.Time {
	fresh, aging := c.ages(cadence)
	switch class {
	case market.Fresh:
		return t.Add(fresh + 1)
	case market.Aging:
		return t.Add(aging + 1)
	default:
		return 0
	}
}

func (c *Config) ages(cadence market.Millis) (fresh, aging market.Millis) {
	if cadence <= 0 {
		cadence = market.Minute
	}
	return cadence * market.Millis(c.FreshFactor), cadence * market.Millis(c.AgingFactor)
}

// Still notes since when a token has not moved in price or volume.
type Still struct {
	Since market.Time // when it moved last
	Polls uint64      // Env.Moving then
}

// Frozen reports whether the token stood still for so long while the market moved.
func (s Still) Frozen(env *market.Env, c *Config) bool {
	return env.Moving >= s.Polls+c.FrozenPolls && env.Now.Sub(s.Since) >= c.FrozenFor
}
