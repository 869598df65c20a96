package main

import (
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

func TestFollow(t *testing.T) {
	const s = market.Time(1000)
	f := func(last market.Time, passed time.Duration, machine, want market.Time) {
		t.Helper()
		if got := follow(last, passed, machine); got != want {
			t.Errorf("after %d, %s later, machine %d: %d, want %d", last, passed, machine, got, want)
		}
	}
	f(0, 0, 50*s, 50*s)                            // the first reading
	f(50*s, time.Second, 51*s, 51*s)               // all is well
	f(50*s, time.Second, 90*s, 90*s)               // set forward
	f(50*s, time.Second, 49*s, 50*s)               // slightly back: wait
	f(50*s, time.Second, 10*s, 51*s)               // far back: go on at our own pace
	f(3600*s, 250*time.Millisecond, 10*s, 3600250) // and so on
	f(3600*s, -time.Hour, 10*s, 3600*s)            // never back
}

func TestLiveClockGoesOnFromTheStore(t *testing.T) {
	c := &liveClock{}
	future := market.TimeOf(time.Now()).Add(market.Hour)
	c.notBefore(future)
	if now := c.Now(); now < future || c.Ahead() < 59*time.Minute {
		t.Errorf("now %d, ahead %s", now, c.Ahead())
	}
	c.notBefore(1)
	if c.Now() < future {
		t.Error("the clock went back")
	}
}

func TestReplayClock(t *testing.T) {
	c := newReplayClock(0.01, 1)
	if w := c.wait(market.Time(4 * 365 * market.Day)); w <= 0 {
		t.Errorf("a long gap waits %s", w)
	}
	c.stop(77)
	if c.Now() != 77 {
		t.Errorf("a stopped clock shows %d", c.Now())
	}
	fast := newReplayClock(0, 5)
	if err := fast.reach(t.Context(), 9); err != nil || fast.Now() != 9 {
		t.Errorf("now %d, %v", fast.Now(), err)
	}
	if err := fast.reach(t.Context(), 3); err != nil || fast.Now() != 9 {
		t.Errorf("went back to %d, %v", fast.Now(), err)
	}
}

func TestAnswers(t *testing.T) {
	var a answers
	a.note(nil)
	for at := range market.Time(12) {
		a.note(&market.Batch{ReceivedAt: at + 1})
	}
	if a.since(12) < 0 || a.since(5) < 0 || a.since(4) >= 0 || a.since(0) >= 0 {
		t.Error("the newest eight answers are remembered, no others")
	}
}
