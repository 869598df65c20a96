package recording

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
)

// singleCadence is the cadence of a recording with a single poll.
const singleCadence = market.Minute

var newline = []byte("\n")

// Recording is an open recording. It is not safe for concurrent use.
type Recording struct {
	path string
	file *os.File
	text *text
	dec  decoder

	hash, fileHash string
	times          []market.Time // of the polls, ascending
	cadence        market.Millis
	skipped        int
	ours           bool   // its first poll is one that Writer wrote
	mixed          bool   // and another is not
	torn           bool   // ours ends within a line
	at             uint64 // position of the last poll that Next returned
	last           market.Time
}

// Open opens and checks a recording. Errors name the file, and the line and
// what is wrong where it is not a valid recording.
func Open(path string) (*Recording, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("cannot open recording: %q is not a regular file", path) // opening a pipe would wait for a writer
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open recording: %w", err)
	}
	r := &Recording{path: path, file: file}
	if err := r.check(); err != nil {
		_ = file.Close()
		return nil, err
	}
	return r, nil
}

// check reads the whole file once.
func (r *Recording) check() error {
	if info, err := r.file.Stat(); err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("cannot read recording %q: not a regular file", r.path)
	}
	raw := sha256.New()
	if _, err := io.Copy(raw, r.file); err != nil {
		return fmt.Errorf("cannot read recording %q: %w", r.path, err)
	}
	r.fileHash = hex.EncodeToString(raw.Sum(nil))
	if err := r.rewind(); err != nil {
		return err
	}
	content := sha256.New()
	r.text.sum = content
	for {
		b, err := r.step()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if len(r.times) >= maxPolls {
			return fmt.Errorf("cannot read recording %q: more than %d polls", r.path, maxPolls)
		}
		r.times = append(r.times, b.ReceivedAt)
	}
	if len(r.times) == 0 {
		return fmt.Errorf("cannot read recording %q: it holds no poll", r.path)
	}
	r.hash = hex.EncodeToString(content.Sum(nil))
	r.cadence = median(r.times)
	return r.rewind()
}

// rewind starts over at the first poll.
func (r *Recording) rewind() error {
	if r.text != nil {
		r.text.close()
	}
	if _, err := r.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("cannot read recording %q: %w", r.path, err)
	}
	t, err := newText(r.file)
	if err != nil {
		return r.wrap(err)
	}
	r.text, r.at, r.last, r.skipped = t, 0, 0, 0
	return nil
}

// Next returns the next poll, io.EOF after the last one. Its Position counts
// from 1, its ReceivedAt is the time of the recording, and the rows of a series
// have that as their source time too.
func (r *Recording) Next() (*market.Batch, error) {
	b, err := r.step()
	if err != nil {
		return nil, err
	}
	if b.Cadence == 0 {
		b.Cadence = r.cadence
	}
	return b, nil
}

// step reads up to the next poll whose time is after the one before.
func (r *Recording) step() (*market.Batch, error) {
	for {
		line, err := r.text.next()
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		if err != nil && (!r.ours || !errors.Is(err, io.ErrUnexpectedEOF)) {
			return nil, r.wrap(err)
		}
		if err != nil || r.ours && !bytes.HasSuffix(line, newline) {
			r.torn = true // its writer was stopped within the line: what it began never was an answer
			return nil, io.EOF
		}
		if line = bytes.TrimRight(line, " \t\r\n"); len(line) == 0 {
			continue
		}
		b, err := r.dec.decode(line)
		if err != nil {
			return nil, r.wrap(err)
		}
		r.ours = r.ours || r.at == 0 && r.dec.recorded
		if r.ours && !r.dec.recorded {
			r.mixed = true
		}
		if b.ReceivedAt <= r.last {
			r.skipped++
			continue
		}
		r.at++
		r.last, b.Position = b.ReceivedAt, r.at
		return b, nil
	}
}

func (r *Recording) wrap(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) { // plain text just ends
		err = fmt.Errorf("the gzip file ends early: %w; copy it again, or `gzip -dc` what is there, without the last line", err)
	}
	if r.text == nil {
		return fmt.Errorf("cannot read recording %q: %w", r.path, err)
	}
	return fmt.Errorf("cannot read recording %q: line %d: %w", r.path, r.text.lineOf(err), err)
}

// Seek makes Next return the poll after the one at position: 0 rewinds, Len goes
// to the end.
func (r *Recording) Seek(position uint64) error {
	if position > uint64(len(r.times)) {
		return fmt.Errorf("cannot seek recording %q: position %d is beyond its %d polls", r.path, position, len(r.times))
	}
	if position < r.at {
		if err := r.rewind(); err != nil {
			return err
		}
	}
	for r.at < position {
		if _, err := r.step(); err != nil {
			return err
		}
	}
	return nil
}

// Position returns the position of the last poll that Next returned; 0 at the start.
func (r *Recording) Position() uint64 { return r.at }

// Len returns the number of polls.
func (r *Recording) Len() int { return len(r.times) }

// Cadence returns the median gap between polls; 60 s for a single poll.
func (r *Recording) Cadence() market.Millis { return r.cadence }

// Span returns the times of the first and the last poll.
func (r *Recording) Span() (first, last market.Time) { return r.times[0], r.times[len(r.times)-1] }

// Period returns by how much time is shifted when the recording is repeated:
// its length and one median gap.
func (r *Recording) Period() market.Millis {
	first, last := r.Span()
	return last.Sub(first) + r.cadence
}

// Skipped counts the polls met so far that were left out because their time
// was not after the one before.
func (r *Recording) Skipped() int { return r.skipped }

// Torn reports whether the file is one that a Writer wrote and ends within an
// answer, as after a kill or a power cut: the polls are those before it.
func (r *Recording) Torn() bool { return r.torn }

// Hash returns the SHA-256 of the decompressed content in hex: the same for a
// recording however it is packed, and so fit to name its lineage.
func (r *Recording) Hash() string { return r.hash }

// FileHash returns the SHA-256 of the file's bytes in hex.
func (r *Recording) FileHash() string { return r.fileHash }

// Close closes the file.
func (r *Recording) Close() error {
	r.text.close()
	return r.file.Close()
}

// median returns the middle gap; of an even number the mean of the two.
func median(times []market.Time) market.Millis {
	if len(times) < 2 {
		return singleCadence
	}
	gaps := make([]market.Millis, len(times)-1)
	for i := range gaps {
		gaps[i] = times[i+1].Sub(times[i])
	}
	slices.Sort(gaps)
	n := len(gaps)
	return (gaps[(n-1)/2] + gaps[n/2]) / 2
}
