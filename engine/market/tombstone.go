package market

// TombstoneAge is how long a retired token is remembered for resuming clients.
const TombstoneAge = 7 * Day

// Remembers reports whether the tombstones hold every token that was retired
// after a seq. The newest that has expired stands before those that have not.
func (b *Board) Remembers(since uint64) bool {
	if len(b.Tombstones) == 0 {
		return true
	}
	first := &b.Tombstones[0]
	return since >= first.Seq || b.Time.Sub(first.Time) <= TombstoneAge
}
