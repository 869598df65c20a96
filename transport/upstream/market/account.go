package simulator

import (
	"sync"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Plan is what a key may do. A limit of 0 means that there is none.
type Plan struct {
	Name     string
	Minute   int // requests in a minute
	Daily    int // credits in a day (UTC)
	Monthly  int // credits in a calendar month (UTC)
	Converts int // convert options in a request
}

// Unlimited is the plan of the house's own key.
var Unlimited = Plan{Name: "unlimited"}

// Plans are the plans by the names of 2026 and what is known of their limits.
// Read real ones from /v1/key/info: they change.
var Plans = []Plan{
	{Name: "basic", Minute: 30, Daily: 500, Monthly: 15_000, Converts: 1},
	{Name: "builder", Minute: 30, Monthly: 110_000, Converts: 40},
	{Name: "startup", Minute: 30, Monthly: 300_000, Converts: 40},
	{Name: "growth", Minute: 60, Monthly: 1_200_000, Converts: 120},
	{Name: "professional", Minute: 90, Monthly: 3_000_000, Converts: 120},
	{Name: "enterprise", Minute: 120, Monthly: 30_000_000, Converts: 120},
	Unlimited,
}

// PlanByName finds a plan of Plans.
func PlanByName(name string) (Plan, bool) {
	for _, p := range Plans {
		if p.Name == name {
			return p, true
		}
	}
	return Plan{}, false
}

// KeyState says whether a key works.
type KeyState uint8

// The states of a key, with the error code that a request with it gets.
const (
	KeyActive       KeyState = iota
	KeyNotActivated          // 1003
	KeyExpired               // 1004
	KeyDisabled              // 1007
)

// Key is an accepted API key.
type Key struct {
	Value string
	Plan  Plan
	State KeyState
}

// accounts counts what keys and addresses have used. Bounded: one account a
// key, and at most maxAddresses addresses a minute; those beyond share one
// counter, so that a flood of addresses gains nothing.
type accounts struct {
	perAddress int
	others     *Plan // of unlisted keys; nil refuses them

	mu        sync.Mutex
	keys      map[string]*account
	addresses map[string]int
	minute    int64
}

const maxAddresses = 4096

// maxAccounts bounds the accounts of unlisted keys.
const maxAccounts = 10_000

// account is one key's usage.
type account struct {
	key      Key
	minute   int64
	requests int // in minute
	day      int64
	daily    int // credits in day
	month    int
	monthly  int // credits in month
}

func newAccounts(cfg *Config) *accounts {
	a := &accounts{perAddress: cfg.AddressLimit, others: cfg.OtherKeys, keys: make(map[string]*account, len(cfg.Keys)), addresses: make(map[string]int)}
	for _, k := range cfg.Keys {
		a.keys[k.Value] = &account{key: k}
	}
	return a
}

// roll starts new windows where the old ones are over.
func (a *account) roll(now market.Time) {
	if m := int64(now) / int64(market.Minute); m != a.minute {
		a.minute, a.requests = m, 0
	}
	if d := int64(now) / int64(market.Day); d != a.day {
		a.day, a.daily = d, 0
	}
	if y, m, _ := now.Std().Date(); y*12+int(m) != a.month {
		a.month, a.monthly = y*12+int(m), 0
	}
}

// account finds a key's account, opening one for an unlisted key where those
// are let in. Beyond maxAccounts they share the account of the empty key.
func (a *accounts) account(key string) *account {
	if acc := a.keys[key]; acc != nil || a.others == nil {
		return acc
	}
	if len(a.keys) >= maxAccounts {
		key = ""
	}
	acc := a.keys[key]
	if acc == nil {
		acc = &account{key: Key{Value: key, Plan: *a.others}}
		a.keys[key] = acc
	}
	return acc
}

// admit counts a request with a key, or refuses it. The order is the one in
// which the real API finds fault: the key, the plan, the rate, the credits.
func (a *accounts) admit(now market.Time, key string, excluded bool) (*account, *fault) {
	if key == "" {
		return nil, faultKeyMissing
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	acc := a.account(key)
	if acc == nil {
		return nil, faultKeyInvalid
	}
	switch acc.key.State {
	case KeyActive:
	case KeyNotActivated:
		return nil, faultNotActivated
	case KeyExpired:
		return nil, faultExpired
	default:
		return nil, faultDisabled
	}
	if excluded {
		return nil, faultPlan
	}
	acc.roll(now)
	p := &acc.key.Plan
	switch {
	case p.Minute > 0 && acc.requests >= p.Minute:
		return nil, faultMinute
	case p.Monthly > 0 && acc.monthly >= p.Monthly:
		return nil, faultMonth
	case p.Daily > 0 && acc.daily >= p.Daily:
		return nil, faultDay
	}
	acc.requests++
	return acc, nil
}

// admitAddress counts a request without a key.
func (a *accounts) admitAddress(now market.Time, address string) *fault {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m := int64(now) / int64(market.Minute); m != a.minute {
		a.minute = m
		clear(a.addresses)
	}
	if _, known := a.addresses[address]; !known && len(a.addresses) >= maxAddresses {
		address = ""
	}
	if a.addresses[address] >= a.perAddress {
		return faultAddress
	}
	a.addresses[address]++
	return nil
}

// charge books the credits of an answer and returns the notice to show with it.
func (a *accounts) charge(now market.Time, acc *account, credits int) string {
	if acc == nil {
		return ""
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	acc.roll(now)
	acc.daily += credits
	acc.monthly += credits
	p := &acc.key.Plan
	switch {
	case p.Monthly > 0 && acc.monthly >= p.Monthly:
		return noticeMonth
	case p.Daily > 0 && acc.daily >= p.Daily:
		return noticeDay
	}
	return ""
}

// usage returns a copy of an account with its windows rolled.
func (a *accounts) usage(now market.Time, acc *account) account {
	a.mu.Lock()
	defer a.mu.Unlock()
	acc.roll(now)
	return *acc
}
