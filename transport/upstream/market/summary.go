package simulator

import (
	"strconv"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// global answers /global-metrics/quotes/latest.
func (c *call) global() *fault {
	converts, f := c.conversions()
	if f != nil {
		return f
	}
	w := summary{totals: c.table.totals(), digits: c.market.cfg.Digits, dst: append(c.data, '{')}
	w.counts(len(c.table.quotes))
	w.sectors(&conversion{rate: 1})
	updated := `"last_updated":"` + string(c.table.time.AppendRFC3339(nil)) + `"`
	w.dst = append(w.dst, `"quote":{`...)
	for i := range converts {
		if i > 0 {
			w.dst = append(w.dst, ',')
		}
		w.dst = append(append(append(w.dst, '"'), converts[i].key...), `":{`...)
		w.quote(&converts[i])
		w.dst = append(append(w.dst, updated...), '}')
	}
	c.data = append(append(append(w.dst, "},"...), updated...), '}')
	c.credits = len(converts)
	return nil
}

// summary writes the members of the global metrics.
type summary struct {
	*totals
	digits Digits
	dst    []byte
}

func (w *summary) put(name string, v market.Decimal) { w.dst = member(w.dst, `"`+name+`":`, v) }

func (w *summary) usd(conv *conversion, name string, f float64) {
	w.put(name, conv.amount(w.digits.total(f)))
}

// growth is a change in percent.
func (w *summary) growth(now, before float64) market.Decimal {
	return w.digits.fixed(share(now-before, before), -8)
}

// share is part of whole in percent; 0 of nothing.
func share(part, whole float64) float64 {
	if whole <= 0 {
		return 0
	}
	return 100 * part / whole
}

func (w *summary) counts(coins int) {
	w.put("active_cryptocurrencies", market.FromInt(int64(coins)))
	w.put("total_cryptocurrencies", market.FromInt(int64(coins)*3))
	w.put("active_market_pairs", market.FromInt(int64(w.pairs)))
	w.put("active_exchanges", market.FromInt(800))
	w.put("total_exchanges", market.FromInt(9000))
	eth, ethBefore := share(w.eth, w.cap), share(w.ethBefore, w.capBefore)
	btc, btcBefore := share(w.btc, w.cap), share(w.btcBefore, w.capBefore)
	percent := func(name string, f float64) { w.put(name, w.digits.fixed(f, -12)) }
	percent("eth_dominance", eth)
	percent("btc_dominance", btc)
	percent("eth_dominance_yesterday", ethBefore)
	percent("btc_dominance_yesterday", btcBefore)
	percent("eth_dominance_24h_percentage_change", eth-ethBefore)
	percent("btc_dominance_24h_percentage_change", btc-btcBefore)
}

// sectors are the members that stand both at the top and in every quote.
func (w *summary) sectors(conv *conversion) {
	w.usd(conv, "defi_volume_24h", w.defiVolume)
	w.usd(conv, "defi_volume_24h_reported", w.defiVolume)
	w.usd(conv, "defi_market_cap", w.defiCap)
	w.put("defi_24h_percentage_change", w.growth(w.defiCap, w.defiCapBefore))
	w.usd(conv, "stablecoin_volume_24h", w.stableVolume)
	w.usd(conv, "stablecoin_volume_24h_reported", w.stableVolume)
	w.usd(conv, "stablecoin_market_cap", w.stableCap)
	w.put("stablecoin_24h_percentage_change", w.growth(w.stableCap, w.stableCapBefore))
	// Derivatives turn over about ten times what spot markets do.
	w.usd(conv, "derivatives_volume_24h", 10*w.volume)
	w.usd(conv, "derivatives_volume_24h_reported", 10*w.volume)
	w.put("derivatives_24h_percentage_change", w.growth(w.volume, w.volumeBefore))
}

func (w *summary) quote(conv *conversion) {
	w.usd(conv, "total_market_cap", w.cap)
	w.usd(conv, "total_volume_24h", w.volume)
	w.usd(conv, "total_volume_24h_reported", w.volume)
	w.usd(conv, "altcoin_volume_24h", w.volume-w.btcVolume)
	w.usd(conv, "altcoin_volume_24h_reported", w.volume-w.btcVolume)
	w.usd(conv, "altcoin_market_cap", w.cap-w.btc)
	w.sectors(conv)
	w.usd(conv, "total_market_cap_yesterday", w.capBefore)
	w.usd(conv, "total_volume_24h_yesterday", w.volumeBefore)
	w.put("total_market_cap_yesterday_percentage_change", w.growth(w.cap, w.capBefore))
	w.put("total_volume_24h_yesterday_percentage_change", w.growth(w.volume, w.volumeBefore))
}

// shownUnlimited is what /key/info says where there is no limit, so that a
// client that budgets by it never stops.
const shownUnlimited = 1_000_000_000

func shown(limit int) int {
	if limit == 0 {
		return shownUnlimited
	}
	return limit
}

// keyInfo answers /key/info, which costs nothing.
func (c *call) keyInfo() *fault {
	u := c.market.accounts.usage(c.now, c.account)
	p := &u.key.Plan
	now := c.now.Std()
	month := time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC)
	day := now.Truncate(24 * time.Hour).Add(24 * time.Hour)
	number := func(name string, n int) string { return `"` + name + `":` + strconv.Itoa(n) }
	reset := func(name string, at time.Time) string {
		return `"` + name + `":"` + resetText(at, now) + `","` + name + `_timestamp":"` + string(market.TimeOf(at).AppendRFC3339(nil)) + `"`
	}
	left := func(limit, used int) int { return max(0, limit-used) }
	text := `{"plan":{`
	if p.Daily > 0 {
		text += number("credit_limit_daily", p.Daily) + "," + reset("credit_limit_daily_reset", day) + ","
	}
	text += number("credit_limit_monthly", shown(p.Monthly)) + "," + reset("credit_limit_monthly_reset", month) + "," +
		number("rate_limit_minute", shown(p.Minute)) + `},"usage":{"current_minute":{` + number("requests_made", u.requests) + "," +
		number("requests_left", left(shown(p.Minute), u.requests)) + `},"current_day":{` + number("credits_used", u.daily)
	if p.Daily > 0 {
		text += "," + number("credits_left", left(p.Daily, u.daily))
	}
	text += `},"current_month":{` + number("credits_used", u.monthly) + "," + number("credits_left", left(shown(p.Monthly), u.monthly)) + `}}}`
	c.data = append(c.data, text...)
	return nil
}

// resetText says when a limit resets, such as "In 3 days, 4 hours and 5 minutes".
func resetText(at, now time.Time) string {
	left := at.Sub(now)
	days, hours, minutes := int(left.Hours())/24, int(left.Hours())%24, int(left.Minutes())%60
	plural := func(n int, word string) string {
		if n != 1 {
			word += "s"
		}
		return strconv.Itoa(n) + " " + word
	}
	rest := plural(hours, "hour") + " and " + plural(minutes, "minute")
	if days > 0 {
		rest = plural(days, "day") + ", " + rest
	}
	return "In " + rest
}
