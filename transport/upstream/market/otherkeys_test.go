package simulator

import (
	"strconv"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

func TestOtherKeys(t *testing.T) {
	plan := Plan{Name: "tiny", Minute: 2}
	listed := Key{Value: "listed", Plan: Plan{Name: "basic", Minute: 1}}
	a := newAccounts(&Config{Keys: []Key{listed}, OtherKeys: &plan})
	f := func(key string, want *fault) {
		t.Helper()
		if _, got := a.admit(market.Time(market.Day), key, false); got != want {
			t.Errorf("%q: %v, want %v", key, got, want)
		}
	}
	f("", faultKeyMissing)
	f("one", nil)
	f("one", nil)
	f("one", faultMinute)
	f("two", nil)
	f("listed", nil)
	f("listed", faultMinute)
	for i := range 3 * maxAccounts {
		_, _ = a.admit(market.Time(market.Day), strconv.Itoa(i), false)
	}
	if len(a.keys) > maxAccounts+1 {
		t.Errorf("%d accounts", len(a.keys))
	}
	if _, got := newAccounts(&Config{}).admit(1, "one", false); got != faultKeyInvalid {
		t.Errorf("unlisted key: %v", got)
	}
}
