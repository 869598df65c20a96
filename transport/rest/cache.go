package rest

import "sync"

// cache keeps encoded answers by normalised query, bounded in bytes: the least
// recently used go first (an entry that was used since it was last looked at
// gets a second chance, so that a hit needs no exclusive lock). Beside the key
// an entry has aliases: request targets, byte for byte, that lead to it.
type cache struct {
	limit int

	mu      sync.RWMutex
	size    int
	entries map[string]*entry
	aliases map[string]*entry
	root    entry // sentinel of the ring: root.next is the newest

	flightMu sync.Mutex
	flights  map[flightKey]*flight
}

const (
	maxAliases    = 8   // per entry
	maxAlias      = 512 // bytes
	aliasOverhead = 64
)

// flightKey names an encoding that is under way.
type flightKey struct {
	key string
	seq uint64
}

// flight is an encoding that others wait for.
type flight struct {
	done  chan struct{}
	entry *entry
	fault *fault
}

func newCache(limit int) *cache {
	c := &cache{
		limit: limit, entries: make(map[string]*entry), aliases: make(map[string]*entry), flights: make(map[flightKey]*flight),
	}
	c.root.prev, c.root.next = &c.root, &c.root
	return c
}

// byTarget finds an entry by a request target that was seen before. It allocates nothing.
func (c *cache) byTarget(target []byte) *entry {
	c.mu.RLock()
	e := c.aliases[string(target)]
	c.mu.RUnlock()
	return e.touch()
}

func (c *cache) byKey(key string) *entry {
	c.mu.RLock()
	e := c.entries[key]
	c.mu.RUnlock()
	return e.touch()
}

func (e *entry) touch() *entry {
	if e != nil && !e.touched.Load() {
		e.touched.Store(true)
	}
	return e
}

// once runs build for the key unless that is under way, in which case it waits
// for the result. A build that panics leaves nothing behind; the panic goes on
// in its own request and the waiting ones get an internal fault.
func (c *cache) once(key flightKey, build func() (*entry, *fault)) (*entry, *fault) {
	c.flightMu.Lock()
	if f := c.flights[key]; f != nil {
		c.flightMu.Unlock()
		<-f.done
		return f.entry, f.fault
	}
	f := &flight{done: make(chan struct{}), fault: &faultInternal}
	c.flights[key] = f
	c.flightMu.Unlock()
	defer func() {
		c.flightMu.Lock()
		delete(c.flights, key)
		c.flightMu.Unlock()
		close(f.done)
	}()
	f.entry, f.fault = build()
	return f.entry, f.fault
}

// put stores an entry in the place of the one before under its key. Entries
// above a quarter of the limit are not kept.
func (c *cache) put(e *entry) {
	e.size = e.cost()
	if e.size > c.limit/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.entries[e.key]; old != nil {
		if old.epoch == e.epoch && old.seq > e.seq {
			return // a slow encoding of an older tick
		}
		c.take(old, e)
	}
	c.entries[e.key] = e
	e.next, e.prev = c.root.next, &c.root
	e.next.prev, c.root.next = e, e
	c.size += e.size
	c.evict()
}

// take removes old and hands its aliases to its successor.
func (c *cache) take(old, successor *entry) {
	successor.aliases = old.aliases
	for _, a := range old.aliases {
		c.aliases[a] = successor
		successor.size += len(a) + aliasOverhead
	}
	old.aliases = nil
	c.remove(old)
}

// alias lets target lead to e, as long as e is kept.
func (c *cache) alias(target []byte, e *entry) {
	if len(target) > maxAlias {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[e.key] != e || len(e.aliases) == maxAliases || c.aliases[string(target)] != nil {
		return
	}
	a := string(target)
	c.aliases[a] = e
	e.aliases = append(e.aliases, a)
	c.enlarge(e, len(a)+aliasOverhead)
	c.evict()
}

// grew accounts for a coding that was added to e.
func (c *cache) grew(e *entry, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[e.key] == e {
		c.enlarge(e, n)
		c.evict()
	}
}

func (c *cache) enlarge(e *entry, n int) {
	e.size += n
	c.size += n
}

// evict drops old entries until the rest fits. An entry's second chance is
// spent when it is looked at, so the walk ends.
func (c *cache) evict() {
	for c.size > c.limit {
		last := c.root.prev
		if last.touched.Swap(false) && last != c.root.next {
			c.unlink(last)
			last.next, last.prev = c.root.next, &c.root
			last.next.prev, c.root.next = last, last
			continue
		}
		c.remove(last)
	}
}

func (c *cache) unlink(e *entry) {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
}

func (c *cache) remove(e *entry) {
	c.unlink(e)
	delete(c.entries, e.key)
	for _, a := range e.aliases {
		delete(c.aliases, a)
	}
	c.size -= e.size
}

// usage returns the bytes and entries held.
func (c *cache) usage() (bytes, entries int) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.size, len(c.entries)
}
