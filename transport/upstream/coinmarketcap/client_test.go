package coinmarketcap_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/source"
	"github.com/velocimeter/velocimeter/transport/upstream/coinmarketcap"
	"github.com/velocimeter/velocimeter/transport/upstream/upstreamtest"
)

// with runs fn against a server in memory, on virtual time.
func with(t *testing.T, cfg coinmarketcap.Config, h http.HandlerFunc, fn func(t *testing.T, c *coinmarketcap.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := upstreamtest.NewListener()
		stop := upstreamtest.Serve(l, h)
		cfg := cfg
		cfg.Dial = l.Dial
		if cfg.BaseURL == "" {
			cfg.BaseURL = "http://provider.test"
		}
		if cfg.Now == nil {
			cfg.Now = func() market.Time { return received }
		}
		c, err := coinmarketcap.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		fn(t, c)
		_ = c.Close()
		stop()
	})
}

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

func refuse(w http.ResponseWriter, status, code int) {
	answer(w, status, fmt.Sprintf(`{"status":{"error_code":%d,"error_message":"no"}}`, code))
}

func TestRequest(t *testing.T) {
	f := func(cfg coinmarketcap.Config, wantURL, wantKey string) {
		t.Helper()
		var got, auth string
		with(t, cfg, func(w http.ResponseWriter, r *http.Request) {
			got, auth = r.URL.String(), r.Header.Get("X-CMC_PRO_API_KEY")
			answer(w, 200, envelope(`[]`))
		}, func(t *testing.T, c *coinmarketcap.Client) {
			if _, err := c.Fetch(t.Context()); err != nil {
				t.Error(err)
			}
		})
		if got != wantURL || auth != wantKey {
			t.Errorf("asked %q with key %q, want %q with %q", got, auth, wantURL, wantKey)
		}
	}
	const v1 = "/v1/cryptocurrency/listings/latest?aux=cmc_rank%2Cmax_supply%2Ccirculating_supply%2Ctotal_supply&convert=USD&limit="
	f(coinmarketcap.Config{}, v1+"500&start=1", "")
	f(coinmarketcap.Config{Limit: 20, Keys: []coinmarketcap.Key{key(t, canary)}}, v1+"20&start=1", canary)
	f(coinmarketcap.Config{Limit: 20, BaseURL: "http://provider.test/public-api/"}, "/public-api"+v1+"20&start=1", "")
	f(coinmarketcap.Config{Version: coinmarketcap.V3}, "/v3/cryptocurrency/listings/latest?convert=USD&limit=500&start=1", "")
}

func TestPaging(t *testing.T) {
	f := func(limit, page, available, wantRows, wantCalls int) {
		t.Helper()
		calls := 0
		with(t, coinmarketcap.Config{Limit: limit, Page: page}, func(w http.ResponseWriter, r *http.Request) {
			calls++
			start, _ := strconv.Atoi(r.URL.Query().Get("start"))
			n, _ := strconv.Atoi(r.URL.Query().Get("limit"))
			var rows []string
			for i := start; i < start+n && i <= available; i++ {
				rows = append(rows, row(i, `"price":1`))
			}
			answer(w, 200, envelope("["+strings.Join(rows, ",")+"]"))
		}, func(t *testing.T, c *coinmarketcap.Client) {
			b, err := c.Fetch(t.Context())
			if err != nil || len(b.Quotes) != wantRows || calls != wantCalls {
				t.Errorf("limit %d, page %d: %v rows, %d calls, %v; want %d, %d", limit, page, len(b.Quotes), calls, err, wantRows, wantCalls)
			}
		})
	}
	f(25, 10, 100, 25, 3)
	f(30, 10, 100, 30, 3)
	f(30, 10, 15, 15, 2)
	f(30, 10, 10, 10, 2)
	f(10, 10, 100, 10, 1)
	f(10, 10, 0, 0, 1)
}

func TestPageShift(t *testing.T) {
	pages := []string{row(1, `"price":1`) + "," + row(2, `"price":2`), row(2, `"price":3`) + "," + row(3, `"price":4`)}
	with(t, coinmarketcap.Config{Limit: 4, Page: 2}, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, envelope("["+pages[0]+"]"))
		pages = pages[1:]
	}, func(t *testing.T, c *coinmarketcap.Client) {
		b, err := c.Fetch(t.Context())
		if err != nil || len(b.Quotes) != 3 || b.Quotes[1].Price.String() != "3" {
			t.Errorf("%+v, %v; want token 2 once, as read last", b, err)
		}
	})
}

func TestErrorAnswers(t *testing.T) {
	f := func(status int, body, retry string, want source.Error) {
		t.Helper()
		with(t, coinmarketcap.Config{}, func(w http.ResponseWriter, _ *http.Request) {
			if retry != "" {
				w.Header().Set("Retry-After", retry)
			}
			answer(w, status, body)
		}, func(t *testing.T, c *coinmarketcap.Client) {
			_, err := c.Fetch(t.Context())
			var e *source.Error
			if !errors.As(err, &e) || e.Kind != want.Kind || e.Code != want.Code || e.Status != status || e.RetryAfter != want.RetryAfter {
				t.Errorf("%d %s: %+v, want %+v", status, body, e, want)
			}
		})
	}
	body := func(code string) string {
		return `{"status":{"timestamp":"2024-10-09T16:55:21.863Z","error_code":` + code + `,"error_message":"no","elapsed":0,"credit_count":0}}`
	}
	f(401, body(`1002`), "", source.Error{Kind: source.KindAuth, Code: 1002})
	f(401, body(`"1002"`), "", source.Error{Kind: source.KindAuth, Code: 1002})
	f(402, body(`1004`), "", source.Error{Kind: source.KindPlan, Code: 1004})
	f(429, body(`1008`), "", source.Error{Kind: source.KindRateMinute, Code: 1008})
	f(429, body(`1008`), "90", source.Error{Kind: source.KindRateMinute, Code: 1008, RetryAfter: 90_000})
	f(429, body(`1008`), "-1", source.Error{Kind: source.KindRateMinute, Code: 1008})
	f(429, body(`1008`), "soon", source.Error{Kind: source.KindRateMinute, Code: 1008})
	f(429, body(`1008`), "Fri, 20 Nov 2026 18:01:31 GMT", source.Error{Kind: source.KindRateMinute, Code: 1008, RetryAfter: 60_000})
	f(429, body(`1008`), "Fri, 20 Nov 2020 18:01:31 GMT", source.Error{Kind: source.KindRateMinute, Code: 1008})
	f(429, body(`1009`), "", source.Error{Kind: source.KindRateDay, Code: 1009})
	f(429, body(`1010`), "", source.Error{Kind: source.KindRateMonth, Code: 1010})
	f(429, body(`1011`), "", source.Error{Kind: source.KindRateIP, Code: 1011})
	f(200, body(`1010`), "", source.Error{Kind: source.KindRateMonth, Code: 1010})
	f(200, body(`"0"`), "", source.Error{Kind: source.KindInvalidPayload})
	f(200, `{"data":[]}`, "", source.Error{Kind: source.KindInvalidPayload})
	f(400, body(`400`), "", source.Error{Kind: source.KindBadRequest, Code: 400})
	f(500, body(`500`), "", source.Error{Kind: source.KindServer, Code: 500})
	f(503, `{`, "30", source.Error{Kind: source.KindServer, RetryAfter: 30_000})
}

// Which keys are asked, in order, over several fetches; each letter is a key.
func TestRotation(t *testing.T) {
	keys := []coinmarketcap.Key{key(t, "A"), key(t, "B"), key(t, "C")}
	codes := map[string]int{}
	asked := ""
	now := received
	cfg := coinmarketcap.Config{Keys: keys, Now: func() market.Time { return now }}
	with(t, cfg, func(w http.ResponseWriter, r *http.Request) {
		k := r.Header.Get("X-CMC_PRO_API_KEY")
		asked += k
		if code := codes[k]; code != 0 {
			refuse(w, map[bool]int{true: 401, false: 429}[code < 1008], code)
			return
		}
		answer(w, 200, envelope(`[]`))
	}, func(t *testing.T, c *coinmarketcap.Client) {
		f := func(a, b, cc int, wantAsked string, want source.Kind) {
			t.Helper()
			codes["A"], codes["B"], codes["C"] = a, b, cc
			asked = ""
			_, err := c.Fetch(t.Context())
			kind := source.KindUnknown
			if e, ok := errors.AsType[*source.Error](err); ok {
				kind = e.Kind
			}
			if asked != wantAsked || kind != want {
				t.Errorf("asked %q: %v; want %q, %v", asked, err, wantAsked, want)
			}
		}
		f(0, 0, 0, "A", source.KindUnknown)
		f(1010, 0, 0, "AB", source.KindUnknown)
		f(1010, 0, 0, "B", source.KindUnknown)
		f(1010, 1008, 0, "B", source.KindRateMinute) // a minute's limit is waited for, not dodged
		f(1010, 1009, 1001, "BC", source.KindAuth)   // C may work again first: in an hour
		f(1010, 1009, 1001, "C", source.KindAuth)
		now = now.Add(7 * market.Hour)         // past midnight: B has credits again
		f(1010, 0, 0, "C", source.KindUnknown) // but C is still in turn
	})
}

func TestKeyNeverPrinted(t *testing.T) {
	k := key(t, canary)
	secret := canary[:len(canary)-4]
	f := func(what, text string) {
		t.Helper()
		if strings.Contains(text, secret) || text == "" {
			t.Errorf("%s prints %q", what, text)
		}
	}
	type holder struct {
		Key    coinmarketcap.Key
		hidden coinmarketcap.Key
		list   []coinmarketcap.Key
	}
	h := holder{k, k, []coinmarketcap.Key{k}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%p", "%T"} {
		f(verb, fmt.Sprintf(verb, k))
		f(verb+" of a struct", fmt.Sprintf(verb, h))
		f(verb+" of a pointer", fmt.Sprintf(verb, &h))
	}
	text, err := json.Marshal(map[string]any{"key": k, "holder": h})
	f("json", string(text))
	if err != nil || !json.Valid(text) {
		t.Errorf("json: %s, %v", text, err)
	}
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("m", "key", k, "holder", h, "group", slog.GroupValue(slog.Any("k", &k)))
	}
	f("slog", log.String())
	func() {
		defer func() { f("panic", fmt.Sprint(recover())) }()
		panic(fmt.Errorf("with %v in it", h))
	}()
	if got := k.String(); got != "***zzyx" {
		t.Errorf("a long key is %q", got)
	}
	if got := key(t, "short").String(); got != "***" {
		t.Errorf("a short key is %q", got)
	}
	for _, bad := range []string{"", "  ", "a b", "a\nb", "é", strings.Repeat("x", 300)} {
		if _, err := coinmarketcap.ParseKey(bad); !errors.Is(err, coinmarketcap.ErrKey) {
			t.Errorf("%q became a key: %v", bad, err)
		}
	}
}

// A provider that repeats the key everywhere it can; a log at the lowest level.
func TestKeyNeverLogged(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	replies := []string{
		`{"status":{"error_code":1001,"error_message":"` + canary + `"}}`,
		`{"status":{"error_code":0,"notice":"` + canary + `"},"data":[]}`,
		`{"` + canary + `":` + canary,
		envelope(`[` + row(1, `"price":"`+canary+`"`) + `]`),
	}
	cfg := coinmarketcap.Config{Keys: []coinmarketcap.Key{key(t, canary), key(t, canary+"2")}, Logger: logger}
	with(t, cfg, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, replies[0])
		if len(replies) > 1 {
			replies = replies[1:]
		}
	}, func(t *testing.T, c *coinmarketcap.Client) {
		for range 8 {
			if _, err := c.Fetch(t.Context()); err != nil && strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), canary) {
				t.Errorf("an error has the key: %v", err)
			}
		}
		for _, verb := range []string{"%v", "%+v", "%#v"} {
			if strings.Contains(fmt.Sprintf(verb, c), canary) {
				t.Errorf("%s of the client has the key", verb)
			}
		}
	})
	if strings.Contains(log.String(), canary) || !strings.Contains(log.String(), "provider key rests") {
		t.Errorf("the log is wrong:\n%s", log.String())
	}
}

func TestQuotesMapKeyInfo(t *testing.T) {
	with(t, coinmarketcap.Config{}, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v2/cryptocurrency/quotes/latest":
			answer(w, 200, envelope(`{"1":`+row(1, `"price":5`)+`}`))
		case "/v1/cryptocurrency/map":
			answer(w, 200, envelope(`[{"id":1,"name":"Bitcoin","symbol":"BTC","slug":"bitcoin","rank":1,"is_active":1,"platform":null},{"id":0}]`))
		case "/v1/key/info":
			answer(w, 200, envelope(`{"plan":{"credit_limit_monthly":10000,"credit_limit_monthly_reset":"In 3 days",
				"credit_limit_monthly_reset_timestamp":"2026-12-01T00:00:00.000Z","rate_limit_minute":30},
				"usage":{"current_minute":{"requests_made":1,"requests_left":29},"current_day":{"credits_used":7},"current_month":{"credits_used":8,"credits_left":9992}}}`))
		}
	}, func(t *testing.T, c *coinmarketcap.Client) {
		b, err := c.Quotes(t.Context(), []market.ID{1})
		if err != nil || len(b.Quotes) != 1 || b.Quotes[0].Price.String() != "5" {
			t.Errorf("quotes: %+v, %v", b, err)
		}
		entries, err := c.Map(t.Context())
		if err != nil || len(entries) != 1 || entries[0] != (coinmarketcap.Entry{ID: 1, Symbol: "BTC", Name: "Bitcoin", Slug: "bitcoin", Rank: 1, Active: true}) {
			t.Errorf("map: %+v, %v", entries, err)
		}
		info, err := c.KeyInfo(t.Context())
		want := coinmarketcap.KeyInfo{PerMinute: 30, PerMonth: 10000, MonthResets: 1_796_083_200_000, MinuteLeft: 29, DayUsed: 7, MonthUsed: 8, MonthLeft: 9992}
		if err != nil || info != want {
			t.Errorf("key info: %+v, %v; want %+v", info, err, want)
		}
	})
}

func TestBatch(t *testing.T) {
	cfg := coinmarketcap.Config{Source: market.SourceMarket, Simulated: true, Cadence: 1000}
	with(t, cfg, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, envelope("["+row(1, `"price":5`)+"]"))
	}, func(t *testing.T, c *coinmarketcap.Client) {
		a, err := c.Fetch(t.Context())
		if err != nil || a.Source != market.SourceMarket || !a.Simulated || a.Cadence != 1000 || a.ReceivedAt != received || a.Position != 0 {
			t.Fatalf("%+v, %v", a, err)
		}
		b, err := c.Fetch(t.Context())
		if err != nil || a.Quotes[0].Info != b.Quotes[0].Info || &a.Quotes[0] == &b.Quotes[0] || a.Quotes[0].Flags != market.FlagSimulated {
			t.Errorf("%+v after %+v, %v", b, a, err)
		}
	})
}

func TestConfig(t *testing.T) {
	f := func(cfg coinmarketcap.Config, want string) {
		t.Helper()
		_, err := coinmarketcap.New(cfg)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", cfg, err, want)
		}
	}
	f(coinmarketcap.Config{}, "")
	f(coinmarketcap.Config{BaseURL: "http://127.0.0.1:9000/x"}, "")
	f(coinmarketcap.Config{BaseURL: "ftp://x"}, "base URL")
	f(coinmarketcap.Config{BaseURL: "https://user:pw@x"}, "base URL")
	f(coinmarketcap.Config{BaseURL: "https://x?CMC_PRO_API_KEY=1"}, "base URL")
	f(coinmarketcap.Config{BaseURL: "provider"}, "base URL")
	f(coinmarketcap.Config{Limit: 200_000}, "limit 200000")
	f(coinmarketcap.Config{Page: 5001}, "page 5001")
	f(coinmarketcap.Config{Keys: []coinmarketcap.Key{{}}}, "key 1")
}

func FuzzKey(f *testing.F) {
	f.Add("abc")
	f.Add(canary)
	f.Fuzz(func(t *testing.T, text string) {
		k, err := coinmarketcap.ParseKey(text)
		text = strings.TrimSpace(text)
		if err != nil {
			if len(text) > 12 && strings.Contains(err.Error(), text) && !strings.Contains(coinmarketcap.ErrKey.Error(), text) {
				t.Fatal("the error repeats the key")
			}
			return
		}
		out := fmt.Sprintf("%v%+v%#v%s%q", k, k, k, k, k)
		js, err := json.Marshal(k)
		if err != nil || !json.Valid(js) {
			t.Fatalf("json: %s, %v", js, err)
		}
		if len(text) > 4 && strings.Trim(text, "*") == text && (strings.Contains(out, text) || bytes.Contains(js, []byte(text))) {
			t.Fatalf("%q prints as %s %s", text, out, js)
		}
	})
}
