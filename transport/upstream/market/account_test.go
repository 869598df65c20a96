package simulator

import (
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// refused wants an error answer, to the letter but for the time.
func refused(t *testing.T, a answer, code int, number, message, notice string) {
	t.Helper()
	quoted, err := json.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	if notice != "" {
		notice = `,"notice":` + strconv.Quote(notice)
	}
	want := fmt.Sprintf(`{"status":{"timestamp":%q,"error_code":%s,"error_message":%s,"elapsed":0,"credit_count":0%s}}`,
		a.Status.Timestamp, number, quoted, notice)
	if a.code != code || string(a.body) != want {
		t.Fatalf("got %d %s\nwant %d %s", a.code, a.body, code, want)
	}
}

func TestKeyErrors(t *testing.T) {
	basic, ok := PlanByName("basic")
	if !ok {
		t.Fatal("no basic plan")
	}
	m := newTestMarket(t, Config{Seed: 1, Faults: 1, Keys: []Key{
		{Value: "new", Plan: basic, State: KeyNotActivated},
		{Value: "old", Plan: basic, State: KeyExpired},
		{Value: "off", Plan: basic, State: KeyDisabled},
		{Value: "basic", Plan: basic},
	}})
	const uri = "/v1/cryptocurrency/listings/latest"
	f := func(key, uri string, code int, number, message string) {
		t.Helper()
		refused(t, get(t, m, key, uri), code, number, message, "")
	}
	f("wrong", uri, 401, "1001", "This API Key is invalid.")
	f("", uri, 401, "1002", "API key missing.")
	f("", "/v3/cryptocurrency/listings/latest", 401, `"1002"`, "API key missing.")
	f("new", uri, 402, "1003", "Your API Key must be activated. Please go to pro.coinmarketcap.com/account/plan.")
	f("old", uri, 402, "1004", "Your API Key's subscription plan has expired.")
	f("", "/public-api/v1/key/info", 403, `"1005"`, "An API Key is required for this call.")
	f("basic", "/v1/cryptocurrency/listings/historical", 403, "1006", "Your API Key subscription plan doesn't support this endpoint.")
	f("off", uri, 403, "1007", "This API Key has been disabled. Please contact support.")
	f("basic", uri+"?convert=USD,EUR", 500, "500", "An internal server error occurred")
	f("basic", uri+"?limit=0", 400, "400", `"limit" must be larger than or equal to 1`)

	m = newTestMarket(t, Config{Seed: 1, Keys: []Key{{Value: "basic", Plan: basic}}})
	f("basic", uri+"?convert=USD,EUR", 400, "400", "Your plan is limited to 1 convert options")
	if a := get(t, m, "", uri+"?CMC_PRO_API_KEY=KEY"); a.code != 200 {
		t.Fatalf("a key in the query: %s", a.body)
	}
}

func TestMinuteLimit(t *testing.T) {
	c := &clock{now: noon.Add(59 * market.Second)}
	m := newTestMarket(t, Config{Seed: 1, Now: c.Now, Keys: []Key{{Value: "a", Plan: Plan{Name: "x", Minute: 3}}, {Value: "b", Plan: Plan{Name: "x", Minute: 3}}}})
	const uri = "/v1/cryptocurrency/listings/latest?limit=1"
	ok := func(key, uri string, code int) {
		t.Helper()
		if a := get(t, m, key, uri); a.code != code {
			t.Fatalf("got %d %s", a.code, a.body)
		}
	}
	ok("a", uri, 200)
	ok("a", uri+"&bad=1", 400) // a refused parameter is a request too
	ok("a", uri, 200)
	refused(t, get(t, m, "a", uri), 429, "1008", "You've exceeded your API Key's HTTP request rate limit. Rate limits reset every minute.", "")
	ok("b", uri, 200)
	c.now = noon.Add(market.Minute)
	ok("a", uri, 200)
}

func TestCreditsRunOut(t *testing.T) {
	c := &clock{now: market.TimeOf(time.Date(2026, 11, 29, 23, 0, 0, 0, time.UTC))}
	m := newTestMarket(t, Config{Seed: 1, Now: c.Now, Keys: []Key{{Value: "k", Plan: Plan{Name: "x", Daily: 5, Monthly: 8}}}})
	f := func(uri string, credits int, notice string) {
		t.Helper()
		a := get(t, m, "k", uri)
		got := ""
		if a.Status.Notice != nil {
			got = *a.Status.Notice
		}
		if a.code != 200 || a.Status.Credits != credits || got != notice {
			t.Fatalf("got %d %.300s", a.code, a.body)
		}
	}
	const uri = "/v1/cryptocurrency/listings/latest?limit="
	day := "You've exceeded your API Key's daily rate limit."
	month := "You've exceeded your API Key's monthly credit limit. Please contact us at api@coinmarketcap.com if you need assistance upgrading your plan."
	f(uri+"500", 3, "")
	f("/v1/key/info", 0, "")
	f(uri+"201", 2, noticeDay)
	refused(t, get(t, m, "k", uri+"1"), 429, "1009", day, noticeDay)
	refused(t, get(t, m, "k", "/v1/key/info"), 429, "1009", day, noticeDay)
	c.now = c.now.Add(market.Hour)
	f(uri+"300", 2, "")
	f("/v1/cryptocurrency/map", 1, noticeMonth)
	refused(t, get(t, m, "k", uri+"1"), 429, "1010", month, noticeMonth)
	c.now = c.now.Add(market.Day) // December
	f(uri+"1", 1, "")
}

func TestKeyInfo(t *testing.T) {
	c := &clock{now: noon}
	m := newTestMarket(t, Config{Seed: 1, Now: c.Now, Keys: []Key{{Value: "k", Plan: Plan{Name: "x", Minute: 30, Daily: 50, Monthly: 800}}}})
	get(t, m, "k", "/v1/cryptocurrency/listings/latest?limit=500")
	f := func(key, want string) {
		t.Helper()
		if got := string(get(t, m, key, "/v1/key/info").Data); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
	f("k", `{"plan":{"credit_limit_daily":50,"credit_limit_daily_reset":"In 12 hours and 0 minutes",`+
		`"credit_limit_daily_reset_timestamp":"2026-11-21T00:00:00.000Z","credit_limit_monthly":800,`+
		`"credit_limit_monthly_reset":"In 10 days, 12 hours and 0 minutes","credit_limit_monthly_reset_timestamp":"2026-12-01T00:00:00.000Z",`+
		`"rate_limit_minute":30},"usage":{"current_minute":{"requests_made":2,"requests_left":28},`+
		`"current_day":{"credits_used":3,"credits_left":47},"current_month":{"credits_used":3,"credits_left":797}}}`)
	f("KEY", `{"plan":{"credit_limit_monthly":1000000000,"credit_limit_monthly_reset":"In 10 days, 12 hours and 0 minutes",`+
		`"credit_limit_monthly_reset_timestamp":"2026-12-01T00:00:00.000Z","rate_limit_minute":1000000000},`+
		`"usage":{"current_minute":{"requests_made":1,"requests_left":999999999},"current_day":{"credits_used":0},`+
		`"current_month":{"credits_used":0,"credits_left":1000000000}}}`)
}

func TestAddressLimit(t *testing.T) {
	c := &clock{now: noon}
	m := newTestMarket(t, Config{Seed: 1, Now: c.Now, AddressLimit: 2})
	const uri = "/public-api/v1/cryptocurrency/quotes/latest?id=1"
	for range 2 {
		if a := get(t, m, "", uri); a.code != 200 || string(a.Status.Code) != `"0"` {
			t.Fatalf("keyless: %s", a.body)
		}
	}
	refused(t, get(t, m, "", uri), 429, `"1011"`, "You've hit an IP rate limit.", "")
	c.now = c.now.Add(market.Minute)
	if a := get(t, m, "", uri); a.code != 200 {
		t.Fatalf("a minute later: %s", a.body)
	}
	for i := range 2 * maxAddresses {
		m.accounts.admitAddress(c.now, strconv.Itoa(i))
	}
	if n := len(m.accounts.addresses); n > maxAddresses+1 {
		t.Fatalf("%d addresses are remembered", n)
	}
	if m.accounts.admitAddress(c.now, "one more") != faultAddress {
		t.Fatal("addresses beyond the bound must share a counter")
	}
}
