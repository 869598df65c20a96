package market

import "testing"

func TestRemembers(t *testing.T) {
	f := func(since uint64, want bool, graves ...Tombstone) {
		t.Helper()
		b := Board{Time: Time(10 * Day), Tombstones: graves}
		if b.Remembers(since) != want {
			t.Fatalf("since %d with %v: not %v", since, graves, want)
		}
	}
	young, old := Tombstone{ID: 1, Seq: 50, Time: Time(9 * Day)}, Tombstone{ID: 2, Seq: 20, Time: Time(2 * Day)}
	f(0, true)
	f(0, true, young)
	f(19, false, old, young)
	f(20, true, old, young)
	f(49, true, old, young)
}
