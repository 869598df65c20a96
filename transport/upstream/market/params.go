package simulator

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"
)

// maxParams bounds the parameters of a request; no endpoint has as many.
const maxParams = 64

// params are the parameters of a request, each given once.
type params map[string]string

// rule says which values of a parameter are good; it returns "" or what is
// wrong, in the words that follow the quoted name.
type rule func(value string) string

// endpointRules are the parameters that an endpoint accepts.
type endpointRules map[string]rule

// parseParams reads and checks a query string.
func parseParams(query []byte, rules endpointRules) (params, *fault) {
	var args fasthttp.Args
	args.ParseBytes(query)
	p := make(params)
	for key, value := range args.All() {
		k, v := string(key), string(value)
		if k == keyParam || k == "" && v == "" {
			continue
		}
		check, known := rules[k]
		if !known || len(p) >= maxParams {
			return nil, badRequest(strconv.Quote(k), " is not allowed")
		}
		if _, twice := p[k]; twice {
			return nil, badRequest(strconv.Quote(k), " must be a string")
		}
		if v == "" {
			return nil, badRequest(strconv.Quote(k), " is not allowed to be empty")
		}
		if wrong := check(v); wrong != "" {
			return nil, badRequest(strconv.Quote(k), " ", wrong)
		}
		p[k] = v
	}
	return p, nil
}

// count accepts whole numbers from 1.
func count(hi int) rule {
	inRange := number(1, float64(hi))
	return func(v string) string {
		if wrong := inRange(v); wrong != "" {
			return wrong
		}
		if _, err := strconv.Atoi(v); err != nil {
			return "must be an integer"
		}
		return ""
	}
}

// number accepts decimal numbers of a range.
func number(lo, hi float64) rule {
	return func(v string) string {
		f, err := strconv.ParseFloat(v, 64)
		switch {
		case err != nil || math.IsNaN(f) || math.IsInf(f, 0):
			return "must be a number"
		case f < lo:
			return "must be larger than or equal to " + strconv.FormatFloat(lo, 'f', -1, 64)
		case f > hi:
			return "must be less than or equal to " + strconv.FormatFloat(hi, 'f', -1, 64)
		}
		return ""
	}
}

// oneOf accepts the given words.
func oneOf(words ...string) rule {
	return func(v string) string {
		if slices.Contains(words, v) {
			return ""
		}
		return "must be one of [" + strings.Join(words, ", ") + "]"
	}
}

// listOf accepts comma-separated words of a closed set.
func listOf(words ...string) rule {
	one := oneOf(words...)
	return func(v string) string {
		for item := range strings.SplitSeq(v, ",") {
			if one(item) != "" {
				return "should only include comma-separated values of [" + strings.Join(words, ", ") + "]"
			}
		}
		return ""
	}
}

// separated accepts comma-separated items of allowed characters.
func separated(message string, allowed func(r rune) bool) rule {
	return func(v string) string {
		for item := range strings.SplitSeq(v, ",") {
			if item == "" || strings.ContainsFunc(item, func(r rune) bool { return !allowed(r) }) {
				return message
			}
		}
		return ""
	}
}

func isDigit(r rune) bool { return r >= '0' && r <= '9' }

func isAlnum(r rune) bool { return isDigit(r) || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }

var (
	ruleIDs     = separated("should only include comma-separated numeric CoinMarketCap cryptocurrency ids", isDigit)
	ruleSymbols = separated("should only include comma-separated alphanumeric cryptocurrency symbols", func(r rune) bool {
		return isAlnum(r) || strings.ContainsRune("$+-_@.*()", r) || r >= 0x80 && r != '�'
	})
	ruleSlugs = separated("should only include comma-separated alphanumeric cryptocurrency slugs", func(r rune) bool {
		return isAlnum(r) || r == '-' || r == '_' || r == '.'
	})
	ruleConvert = separated("should only include comma-separated alphanumeric currency symbols", func(r rune) bool {
		return isAlnum(r) || strings.ContainsRune("$+-_@.", r)
	})
	ruleBool = oneOf("true", "false")
	ruleAny  = rule(func(string) string { return "" })
)

const huge = 1e17

// listingAux are the fields of a listing that aux may choose.
var listingAux = []string{
	"num_market_pairs", "cmc_rank", "date_added", "tags", "platform", "max_supply", "circulating_supply", "total_supply",
	"market_cap_by_total_supply", "volume_24h_reported", "volume_7d", "volume_7d_reported", "volume_30d",
	"volume_30d_reported", "is_market_cap_included_in_calc", "is_active", "is_fiat",
}

const defaultListingAux = "num_market_pairs,cmc_rank,date_added,tags,platform,max_supply,circulating_supply,total_supply"

var rulesListings = endpointRules{
	"start": count(1_000_000), "limit": count(5000),
	"price_min": number(0, huge), "price_max": number(0, huge),
	"market_cap_min": number(0, huge), "market_cap_max": number(0, huge),
	"volume_24h_min": number(0, huge), "volume_24h_max": number(0, huge),
	"circulating_supply_min": number(0, huge), "circulating_supply_max": number(0, huge),
	"percent_change_24h_min": number(-100, huge), "percent_change_24h_max": number(-100, huge),
	"convert": ruleConvert, "convert_id": ruleIDs,
	"sort": oneOf("name", "symbol", "date_added", "market_cap", "market_cap_strict", "price", "circulating_supply",
		"total_supply", "max_supply", "num_market_pairs", "volume_24h", "percent_change_1h", "percent_change_24h",
		"percent_change_7d", "market_cap_by_total_supply_strict", "volume_7d", "volume_30d"),
	"sort_dir": oneOf("asc", "desc"), "cryptocurrency_type": oneOf("all", "coins", "tokens"),
	"tag": ruleAny, "aux": listOf(listingAux...),
}

var rulesQuotes = endpointRules{
	"id": ruleIDs, "slug": ruleSlugs, "symbol": ruleSymbols, "convert": ruleConvert, "convert_id": ruleIDs,
	"aux": listOf(listingAux...), "skip_invalid": ruleBool,
}

var rulesMap = endpointRules{
	"listing_status": listOf("active", "inactive", "untracked"), "start": count(1_000_000), "limit": count(5000),
	"sort": oneOf("id", "cmc_rank"), "symbol": ruleSymbols,
	"aux": listOf("platform", "first_historical_data", "last_historical_data", "is_active", "status"),
}

var rulesInfo = endpointRules{
	"id": ruleIDs, "slug": ruleSlugs, "symbol": ruleSymbols, "address": ruleAny, "skip_invalid": ruleBool,
	"aux": listOf("urls", "logo", "description", "tags", "platform", "date_added", "notice", "status"),
}

var rulesGlobal = endpointRules{"convert": ruleConvert, "convert_id": ruleIDs}

var rulesNone = endpointRules{}

// integer returns a checked whole number, or the given default.
func (p params) integer(name string, missing int) int {
	n, err := strconv.Atoi(p[name])
	if err != nil {
		return missing
	}
	return n
}

// text returns a parameter, or the given default.
func (p params) text(name, missing string) string {
	if v, ok := p[name]; ok {
		return v
	}
	return missing
}
