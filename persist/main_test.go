package persist

import (
	"testing"

	"go.uber.org/goleak"
)

// A store that pebble refuses leaves this goroutine of it behind.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/cockroachdb/pebble/v2.(*ConcurrencyLimitScheduler).periodicGranter"))
}
