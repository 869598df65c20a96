package simulator

import "github.com/velocimeter/velocimeter/engine/market"

// fiat is a currency that values can be converted to. The rates are synthetic:
// units per US dollar, fixed, near those of 2025.
type fiat struct {
	id     int
	symbol string
	rate   float64
}

var fiats = []fiat{
	{2781, "USD", 1},
	{2782, "AUD", 1.53},
	{2783, "BRL", 5.36},
	{2784, "CAD", 1.4},
	{2785, "CHF", 0.805},
	{2786, "CLP", 941},
	{2787, "CNY", 7.12},
	{2788, "CZK", 20.9},
	{2789, "DKK", 6.43},
	{2790, "EUR", 0.861},
	{2791, "GBP", 0.76},
	{2792, "HKD", 7.77},
	{2793, "HUF", 331},
	{2794, "IDR", 16_650},
	{2795, "ILS", 3.24},
	{2796, "INR", 88.7},
	{2797, "JPY", 154},
	{2798, "KRW", 1455},
	{2799, "MXN", 18.4},
	{2800, "MYR", 4.15},
	{2801, "NOK", 10.1},
	{2802, "NZD", 1.77},
	{2803, "PHP", 58.9},
	{2804, "PKR", 281},
	{2805, "PLN", 3.65},
	{2806, "RUB", 81},
	{2807, "SEK", 9.46},
	{2808, "SGD", 1.3},
	{2809, "THB", 32.4},
	{2810, "TRY", 42.2},
	{2811, "TWD", 31},
	{2812, "ZAR", 17.2},
}

// conversion is one convert option: values in USD are multiplied by rate.
type conversion struct {
	id     int
	symbol string
	key    string // of the quote object: the symbol, or the id with convert_id
	rate   float64
	// The coin to convert to; nil for a fiat currency.
	base    *market.Quote
	history history
}

func fiatBy(match func(*fiat) bool) (conversion, bool) {
	for i := range fiats {
		if f := &fiats[i]; match(f) {
			return conversion{id: f.id, symbol: f.symbol, rate: f.rate}, true
		}
	}
	return conversion{}, false
}

// amount converts a USD amount; dollars keep every digit.
func (c *conversion) amount(d market.Decimal) market.Decimal {
	if c.rate == 1 || d.IsNull() {
		return d
	}
	return noisy(d.Float() * c.rate)
}

// percent converts a change: against a coin, its own change counts too.
func (c *conversion) percent(d, base market.Decimal) market.Decimal {
	if c.base == nil || d.IsNull() || base.IsNull() || base.Float() <= -100 {
		return d
	}
	return market.Fixed(100*((1+d.Float()/100)/(1+base.Float()/100)-1), -8)
}
