package ws

import (
	"context"
	"fmt"
	"sync"
)

// crowd counts connections from before their admission until they are gone. It
// is no sync.WaitGroup because it may grow from zero while somebody waits.
type crowd struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed at zero; nil while nobody waits
}

func (c *crowd) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
}

func (c *crowd) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n--; c.n == 0 && c.none != nil {
		close(c.none)
		c.none = nil
	}
}

// wait returns once nobody is there, or with an error when ctx ends first.
func (c *crowd) wait(ctx context.Context) error {
	none := c.empty()
	select {
	case <-none:
		return nil
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == 0 {
		return nil
	}
	return fmt.Errorf("cannot wait for the last %d stream connections: %w", c.n, ctx.Err())
}

// empty returns a channel that is closed once nobody is there.
func (c *crowd) empty() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.none == nil {
		c.none = make(chan struct{})
	}
	none := c.none
	if c.n == 0 {
		close(none)
		c.none = nil
	}
	return none
}
