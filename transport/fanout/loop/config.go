package loop

import "time"

// Config sets times and sizes of connections. The zero value of a member means
// its default.
type Config struct {
	CloseWait    time.Duration // 5 s for the frame being written and the last one, and as much again for the peer's end
	WriteTimeout time.Duration // 35 s until what TryWrite left pending is out, or the connection is cut
	Unsent       int           // bytes that the kernel may hold unsent (TCP_NOTSENT_LOWAT); 16 KiB
	Silence      time.Duration // 40 s until the kernel gives up a peer that acknowledges nothing (TCP_USER_TIMEOUT)

	// Goroutines serves every connection by goroutines, as where there is no epoll.
	Goroutines bool
}

func (c *Config) setDefaults() {
	def(&c.CloseWait, 5*time.Second)
	def(&c.WriteTimeout, 35*time.Second)
	def(&c.Unsent, 16<<10)
	def(&c.Silence, 40*time.Second)
}

func def[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}
