package ledger

// Order follows the positions of one subscription of a client, through its
// connections. It belongs to one goroutine.
type Order struct {
	b        *Book
	who      string
	position uint64
	channel  uint64
	fresh    bool // nothing has come on this connection
}

// Follow returns the order of a client's subscription.
func (b *Book) Follow(who string) *Order { return &Order{b: b, who: who, fresh: true} }

// Connected notes a new connection.
func (o *Order) Connected() { o.fresh = true }

// Snapshot notes the first part of a snapshot.
func (o *Order) Snapshot(channel, seq uint64) { o.at("a snapshot", channel, seq, false) }

// Delta notes the first part of a delta; prev is what it follows.
func (o *Order) Delta(channel, seq, prev uint64) {
	o.b.Check(Ordered, prev < seq, "%s: a delta from %d to %d", o.who, prev, seq)
	o.at("a delta", channel, seq, true)
}

// Beat notes a heartbeat of the channel: nothing changed up to seq.
func (o *Order) Beat(channel, seq uint64) { o.at("a heartbeat", channel, seq, false) }

func (o *Order) at(what string, channel, seq uint64, strict bool) {
	b := o.b
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !o.fresh && channel == o.channel && strict:
		b.check(Ordered, seq > o.position, "%s: %s at seq %d, the position is %d", o.who, what, seq, o.position)
	default:
		floor := o.position
		for _, r := range b.lost { // only what was durable is still there
			if o.fresh && r.has(o.position) {
				floor = min(floor, r.From-1)
			}
		}
		b.check(Ordered, seq >= floor, "%s: %s at seq %d, the position was %d, of which a crash left %d", o.who, what, seq, o.position, floor)
	}
	o.position, o.channel, o.fresh = seq, channel, false
	b.newest = max(b.newest, seq)
}
