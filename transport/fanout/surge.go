package fanout

// surge notices that many connections were made and that no more come. Their
// handshakes leave several times the memory behind that the connections need,
// which the runtime would return to the system much later.
type surge struct {
	opened  uint64 // as of the last sweep
	settled uint64 // as of the end of the last surge
	quiet   int    // sweeps since a connection was made
}

const (
	surgeLeast = 1000 // connections that are worth a collection
	surgeQuiet = 10   // sweeps without another one
)

// over takes how many connections were ever made and reports the end of a surge,
// once.
func (s *surge) over(opened uint64) bool {
	if s.quiet++; opened != s.opened {
		s.opened, s.quiet = opened, 0
	}
	if s.quiet < surgeQuiet || opened-s.settled < surgeLeast {
		return false
	}
	s.settled = opened
	return true
}
