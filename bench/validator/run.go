//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/velocimeter/velocimeter/bench/validator/ledger"
	"github.com/velocimeter/velocimeter/engine/market"
)

// storeRoom is the size of the file system that the store gets, in bytes, so
// that it can be filled.
const storeRoom = 256 << 20

// run is one run of the validator.
type run struct {
	cfg      *settings
	out      io.Writer
	book     *ledger.Book
	provider *provider // nil where the server runs already
	server   *server
	reader   *reader
	rng      *rand.Rand
	begun    time.Time
	ids      []market.ID // of the market
	dir      string      // of everything that is written
	mounted  string      // "" where the disk cannot be filled
	header   http.Header

	loops    sync.WaitGroup // of witnesses
	watching context.CancelFunc
	hush     atomic.Bool // readers rest

	baseGoroutines, baseDescriptors int

	most    atomic.Uint64 // resident bytes
	slowest atomic.Int64  // nanoseconds from a start to ready
	done    map[string]int
	skipped map[string]string
	said    [16]uint64 // violations, by invariant
	rounds  int        // of reckoning
	torn    bool       // the crash under way may leave a hole that nothing tells yet
	tornAt  uint64     // what was promised at the first such crash; 0 for none
}

// secret makes a canary that the seed decides.
func secret(rng *rand.Rand) string {
	const letters = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
	b := make([]byte, 40)
	for i := range b {
		b[i] = letters[rng.IntN(len(letters))]
	}
	return string(b)
}

func newRun(ctx context.Context, c *settings, out io.Writer) (*run, error) {
	r := &run{cfg: c, out: out, begun: time.Now(), rng: rand.New(rand.NewPCG(c.seed, 1)), done: map[string]int{}, skipped: map[string]string{}}
	r.server = &server{binary: c.binary, http: &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
	var keys [4]string
	for i, name := range []string{"of the provider", "of the provider, in the file", "of a client's header", "of a client's address"} {
		keys[i] = secret(r.rng)
		r.server.canaries = append(r.server.canaries, ledger.NewCanary(name, keys[i]))
	}
	r.header = http.Header{"X-Api-Key": {keys[2]}, "Authorization": {"Bearer " + keys[2]}}
	r.server.hidden = "/api/v1/tokens?api_key=" + keys[3]
	if c.url != "" {
		r.book = ledger.New(nil)
		return r, r.attach(ctx, c)
	}
	for id := range c.tokens {
		r.ids = append(r.ids, market.ID(id+1))
	}
	var err error
	if r.provider, err = startProvider(ctx, c.tokens, c.seed); err != nil {
		return nil, err
	}
	r.book = ledger.New(r.provider)
	r.join()
	return r, r.prepare(ctx, keys[0], keys[1])
}

// join tells the parts of each other.
func (r *run) join() {
	r.server.book = r.book
	r.reader = &reader{book: r.book, server: r.server, past: map[string][]byte{}, told: new(promises)}
}

// attach takes a server that runs already.
func (r *run) attach(ctx context.Context, c *settings) (err error) {
	r.join()
	r.server.public, r.server.admin, r.server.data = c.url, c.admin, c.data
	r.server.pid.Store(int64(c.pid))
	r.server.phase.Store(up)
	r.book.Started()
	if r.ids, err = r.reader.tokensNow(ctx); err == nil && len(r.ids) == 0 {
		err = fmt.Errorf("the market of %q is empty: %w", c.url, errStatus)
	}
	return err
}

// prepare makes folders, the settings and the addresses.
func (r *run) prepare(ctx context.Context, key, other string) (err error) {
	if r.dir, err = os.MkdirTemp("", "validator-"); err != nil {
		return fmt.Errorf("cannot make a folder: %w", err)
	}
	disk := filepath.Join(r.dir, "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		return fmt.Errorf("cannot make a folder: %w", err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%d", storeRoom)); err != nil {
		r.skipped["full"] = "a file system of its own cannot be mounted: " + err.Error()
	} else {
		r.mounted = disk
	}
	s := r.server
	s.data = filepath.Join(disk, "data")
	if s.public, err = freeAddress(ctx); err == nil {
		s.admin, err = freeAddress(ctx)
	}
	if err != nil {
		return err
	}
	file := filepath.Join(r.dir, "velocimeter.yaml")
	text := fmt.Sprintf("coinmarketcap:\n  base_url: %s\n  keys: [%s]\nengine:\n  snapshot_interval: 3s\nstore:\n  min_free: 32MiB\n  ballast: 16MiB\n", r.provider.url, other)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return fmt.Errorf("cannot write the settings: %w", err)
	}
	s.env = []string{"CMC_API_KEY=" + key, fmt.Sprintf("GOMEMLIMIT=%dMiB", r.cfg.rss*3/4)}
	s.args = []string{"--config", file, "--limit", strconv.Itoa(r.cfg.tokens), "--interval", "1s"}
	return nil
}

// close ends everything and removes what was written.
func (r *run) close() {
	if r.watching != nil {
		r.watching()
		r.loops.Wait()
	}
	if r.provider != nil {
		if r.server.phase.Load() == up {
			r.server.kill()
		}
		_ = r.provider.server.Close()
	}
	if r.cfg.keep && r.dir != "" && !r.book.Sound() {
		_, _ = fmt.Fprintf(r.out, "kept in %s\n", r.dir)
		_ = os.WriteFile(filepath.Join(r.dir, "log"), r.server.log.Bytes(), 0o600)
		return
	}
	if r.mounted != "" {
		_ = syscall.Unmount(r.mounted, syscall.MNT_DETACH)
	}
	if r.dir != "" {
		_ = os.RemoveAll(r.dir)
	}
}

func (r *run) answers() int {
	if r.provider == nil {
		return 0
	}
	return r.provider.answers()
}

// all makes the run: faults one after another for as long as was asked, and the
// whole reckoning at the end.
func (r *run) all(ctx context.Context) error {
	if r.provider == nil {
		r.watch(ctx)
		pause(ctx, r.cfg.length)
		r.reckon(ctx)
		r.book.Check(ledger.Alive, r.cfg.pid == 0 || syscall.Kill(r.cfg.pid, 0) == nil, "process %d is gone", r.cfg.pid)
		return r.search(ctx)
	}
	if err := r.early(ctx); err != nil {
		return err
	}
	r.measure(ctx)
	r.watch(ctx)
	pause(ctx, time.Second)
	for order := []fault(nil); time.Since(r.begun) < r.cfg.length && ctx.Err() == nil; order = order[1:] {
		var err error
		if len(order) == 0 {
			if order, err = r.shuffled(); err != nil {
				return err
			}
		}
		if err := r.inflict(ctx, order[0]); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err() //nolint:wrapcheck // it was interrupted
	}
	r.released(ctx)
	r.reckon(ctx)
	if err := r.search(ctx); err != nil {
		return err
	}
	return r.stop(ctx, false)
}

// inflict makes one fault, lets the server run on and reckons.
func (r *run) inflict(ctx context.Context, f fault) error {
	promised := r.book.Promise()
	r.say("%s: durable_seq %d, newest %d", f.name, promised, r.book.Shows())
	if err := f.inflict(r, ctx, promised); err != nil {
		return fmt.Errorf("fault %s, number %d: %w", f.name, r.done[f.name]+1, err)
	}
	r.done[f.name]++
	pause(ctx, time.Duration(500+r.rng.IntN(2000))*time.Millisecond)
	if r.server.phase.Load() != up {
		return fmt.Errorf("fault %s: the server is not up: %w", f.name, errStatus)
	}
	r.reckon(ctx)
	return nil
}

// say tells what happens, and the violations that are new.
func (r *run) say(format string, args ...any) {
	if !r.cfg.verbose {
		return
	}
	_, _ = fmt.Fprintf(r.out, "%8s  %s\n", time.Since(r.begun).Round(time.Millisecond), fmt.Sprintf(format, args...))
	for i, v := range r.book.Verdicts() {
		if v.Violated > r.said[i] {
			_, _ = fmt.Fprintf(r.out, "          VIOLATED %d times more: %v: %s\n", v.Violated-r.said[i], v.Invariant, v.Example)
			r.said[i] = v.Violated
		}
	}
}

// boot starts the server and waits until it is ready.
func (r *run) boot(ctx context.Context) error {
	begun := time.Now()
	if err := r.server.start(ctx, []string{"0s", "50ms", "1s"}[r.rng.IntN(3)]); err != nil {
		return err
	}
	err := r.server.ready(ctx, 30*time.Second)
	if ctx.Err() == nil {
		r.book.Check(ledger.Ready, err == nil, "%v", err)
	}
	r.slowest.Store(max(r.slowest.Load(), int64(time.Since(begun))))
	return err
}

// stop stops the server in order and looks at the store.
func (r *run) stop(ctx context.Context, paused bool) error {
	promised := r.book.Promise()
	r.server.terminate()
	pause(ctx, 300*time.Millisecond) // what was sent arrives
	return r.verify(ctx, promised, func(durable uint64) { r.book.Stopped(durable, paused) })
}

// crash kills the server and looks at the store.
func (r *run) crash(ctx context.Context, promised uint64) error {
	r.server.kill()
	pause(ctx, 300*time.Millisecond) // what was sent arrives
	answers := r.answers()
	return r.verify(ctx, promised, func(durable uint64) { r.book.Crashed(durable, answers) })
}

// verdict is what `velocimeter verify --json` prints.
type verdict struct {
	Sound      bool            `json:"sound"`
	Epoch      string          `json:"epoch"`
	Durable    uint64          `json:"durable_seq"`
	Holes      []holes         `json:"holes"`
	Cut        []holes         `json:"cut"`
	FaultCount uint64          `json:"fault_count"`
	Faults     json.RawMessage `json:"faults"`
}

type holes struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// verify has the program check its store while nobody uses it.
func (r *run) verify(ctx context.Context, promised uint64, tell func(durable uint64)) error {
	cmd := r.server.command(ctx, "verify", "--data", r.server.data, "--json")
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	r.book.Searched("what verify prints", append(out.Bytes(), complaints.Bytes()...), r.server.canaries)
	if _, failed := asError[*exec.ExitError](err); err != nil && !failed {
		return fmt.Errorf("cannot run verify: %w", err)
	}
	var v verdict
	if json.Unmarshal(out.Bytes(), &v) != nil {
		if r.book.Promise() == 0 { // killed before there was a store
			tell(0)
			return nil
		}
		r.book.Check(ledger.Durable, false, "verify says: %s", complaints.String())
		return nil
	}
	// A crash between the end of a pause and the next state leaves a hole that
	// only the next start can note.
	torn := v.Durable >= promised && r.torn
	r.book.Check(ledger.Durable, v.Sound || torn, "verify finds %d faults: %.600s", v.FaultCount, v.Faults)
	for _, c := range v.Cut {
		r.book.Check(ledger.Durable, c.From > r.tornAt && r.tornAt > 0, "the store has cut off seqs %d…%d", c.From, c.To)
	}
	var ranges []ledger.Range
	for _, h := range v.Holes {
		ranges = append(ranges, ledger.Range(h))
	}
	r.book.Holes(ranges, promised)
	tell(v.Durable)
	r.say("store: durable_seq %d, promised %d, newest %d, %d holes, the last ones %v", v.Durable, promised, r.book.Shows(), len(v.Holes), v.Holes[max(0, len(v.Holes)-2):])
	return nil
}

// reckon reads everything that is there and holds it against what was shown.
func (r *run) reckon(ctx context.Context) {
	r.rounds++
	for n, id := range r.ids {
		r.try(ctx, func() error { return r.reader.history(ctx, id) })
		if (n+r.rounds)%5 == 0 {
			r.try(ctx, func() error { return r.reader.minutes(ctx, id) })
		}
	}
	r.try(ctx, func() error {
		_, err := r.reader.tokensNow(ctx)
		return err
	})
}

// try does something that must work while the server is up. A refusal for being
// busy is repeated.
func (r *run) try(ctx context.Context, f func() error) {
	var err error
	for range 20 {
		if err = f(); err == nil || ctx.Err() != nil || r.server.phase.Load() != up {
			return
		}
		pause(ctx, 250*time.Millisecond)
	}
	r.book.Check(ledger.Ready, false, "while the server is up: %v", err)
}

// search looks for the secrets in everything that the server tells or writes.
func (r *run) search(ctx context.Context) error {
	s := r.server
	for _, path := range []string{"/metrics", "/connections", "/version", "/debug/pprof/goroutine?debug=2", "/debug/pprof/allocs?debug=1", "/debug/pprof/symbol"} {
		_, _, _ = s.get(ctx, s.admin, path)
	}
	s.mu.Lock()
	s.searchLog()
	s.mu.Unlock()
	if s.data == "" {
		return nil
	}
	err := filepath.WalkDir(s.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "BALLAST" {
			return ignoreGone(err)
		}
		b, err := os.ReadFile(path)
		if err == nil {
			s.book.Searched("the file "+strings.TrimPrefix(path, s.data), b, s.canaries)
		}
		return ignoreGone(err)
	})
	if err != nil {
		return fmt.Errorf("cannot search the store: %w", err)
	}
	return nil
}

// ignoreGone forgives files that the server removed meanwhile.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
