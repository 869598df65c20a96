package recording

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Errors of a Writer.
var (
	// ErrFull says that an answer would make the file larger than it may be. The
	// answer was not written; the file is whole.
	ErrFull = errors.New("the recording is full")
	// ErrOthers says that a file to append to is not one that a Writer wrote.
	ErrOthers = errors.New("not a recording of this program")
)

// Writer appends polls to a file. Each is on disk when Add returns, so that
// whatever ends the process costs at most the poll that was being written. It is
// not safe for concurrent use.
type Writer struct {
	file  *os.File
	zip   *gzip.Writer // nil: plain text
	limit int64        // bytes of the file; 0 no limit
	size  int64        // bytes of the file
	text  int64        // bytes of its text
	polls int          // in the file
	last  market.Time
	line  []byte
	out   bytes.Buffer
}

// Create makes a new file for a recording: gzipped if the name ends in .gz. It
// holds at most limit bytes, 0 for no limit but that of the text that Open
// reads, 4 GiB. The error is an os.ErrExist where the name is taken.
func Create(path string, limit int64) (*Writer, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot create recording: %w", err)
	}
	w := &Writer{file: file, limit: limit}
	w.pack(strings.HasSuffix(path, ".gz"))
	return w, nil
}

// Append opens a file that a Writer wrote, to go on in it, in the way it is
// packed. What a torn end holds of an answer is cut off. Errors: ErrOthers, and
// those of Open.
func Append(path string, limit int64) (w *Writer, torn bool, err error) {
	w = &Writer{limit: limit}
	if err = w.look(path); err != nil && !w.unborn(path) {
		return nil, false, err
	}
	if w.file, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return nil, false, fmt.Errorf("cannot append to recording: %w", err)
	}
	whole, err := w.file.Stat()
	if err == nil {
		err = w.seekEnd()
	}
	if err == nil {
		torn = whole.Size() > w.size
	}
	switch {
	case err != nil:
		err = fmt.Errorf("cannot append to recording %q: %w", path, err)
	case w.size == 0:
		w.polls, w.last = 0, 0
	case torn: // what was cut off may have been readable, but for its checksum
		err = w.look(path)
	}
	if err != nil {
		return nil, false, errors.Join(err, w.file.Close())
	}
	return w, torn, nil
}

// look learns what the file holds.
func (w *Writer) look(path string) error {
	r, err := Open(path)
	if err != nil {
		return err
	}
	_, w.last = r.Span()
	w.polls = r.Len()
	w.pack(r.text.zip != nil)
	if err := r.Close(); err != nil {
		return err
	}
	if !r.ours || r.mixed {
		return fmt.Errorf("cannot append to %q: %w", path, ErrOthers)
	}
	return nil
}

// unborn reports whether a file is empty, or holds no more than a torn first
// answer: its writer was stopped before it was whole.
func (w *Writer) unborn(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close() //nolint:errcheck // read only
	info, err := file.Stat()
	if err != nil {
		return false
	}
	if info.Size() == 0 {
		w.pack(strings.HasSuffix(path, ".gz"))
		return true
	}
	t, err := newText(file)
	if err != nil {
		return false
	}
	defer t.close()
	_ = t.more(maxLine) // what there is of it
	w.pack(t.zip != nil)
	return bytes.HasPrefix(t.buf, []byte(lineStart)) && !bytes.HasSuffix(t.buf, newline)
}

func (w *Writer) pack(zip bool) {
	if zip {
		w.zip = gzip.NewWriter(nil)
	}
}

// seekEnd goes behind the last whole answer and cuts off what follows it.
func (w *Writer) seekEnd() (err error) {
	if w.zip != nil {
		w.size, w.text, err = wholeMembers(w.file)
	} else {
		w.size, err = wholeLines(w.file)
		w.text = w.size
	}
	if err == nil {
		err = w.file.Truncate(w.size)
	}
	if err == nil {
		_, err = w.file.Seek(w.size, io.SeekStart)
	}
	return err
}

// Polls returns the number of polls in the file, Size its bytes.
func (w *Writer) Polls() int { return w.polls }

// Size returns the bytes of the file.
func (w *Writer) Size() int64 { return w.size }

// Add appends a poll with the answers that it was made of, and syncs the file.
// A poll whose time is not after the one before gets the millisecond after it:
// a reader takes no other. Errors: ErrFull, what is wrong with an answer, the
// file's; after the file's the writer is of no use.
func (w *Writer) Add(b *market.Batch, answers [][]byte) error {
	at := max(b.ReceivedAt, w.last+1)
	w.line = appendPoll(w.line[:0], b, at, answers)
	if len(w.line) > maxLine {
		return fmt.Errorf("cannot record a poll of %d bytes: a line holds at most %d MiB", len(w.line), maxLine>>20)
	}
	data := w.line
	if w.zip != nil {
		w.out.Reset()
		w.zip.Reset(&w.out)
		_, _ = w.zip.Write(w.line) // to memory
		_ = w.zip.Close()
		data = w.out.Bytes()
	}
	size, text := w.size+int64(len(data)), w.text+int64(len(w.line))
	if w.limit > 0 && size > w.limit || text > maxText || w.polls >= maxPolls {
		return ErrFull
	}
	if info, err := w.file.Stat(); err != nil || info.Size() != w.size {
		return errors.Join(errors.New("cannot write recording: somebody else writes to the file"), err)
	}
	if _, err := w.file.Write(data); err != nil {
		return errors.Join(fmt.Errorf("cannot write recording: %w", err), w.file.Truncate(w.size))
	}
	if err := w.file.Sync(); err != nil {
		return fmt.Errorf("cannot sync recording: %w", err)
	}
	w.size, w.text, w.last = size, text, at
	w.polls++
	return nil
}

// Close closes the file.
func (w *Writer) Close() error { return w.file.Close() }

// lineStart is how every line begins.
const lineStart = `{"received_at":"`

func appendPoll(dst []byte, b *market.Batch, at market.Time, answers [][]byte) []byte {
	dst = at.AppendRFC3339(append(dst, lineStart...))
	dst = append(append(append(dst, `","source":"`...), b.Source.String()...), '"')
	if b.Cadence > 0 {
		dst = strconv.AppendInt(append(dst, `,"cadence_ms":`...), int64(b.Cadence), 10)
	}
	if b.Simulated {
		dst = append(dst, `,"simulated":true`...)
	}
	dst = append(dst, `,"answers":[`...)
	for i, a := range answers {
		if i > 0 {
			dst = append(dst, ',')
		}
		start := len(dst)
		dst = append(dst, a...)
		for j, c := range dst[start:] { // JSON has line ends between its parts only
			if c == '\n' || c == '\r' {
				dst[start+j] = ' '
			}
		}
	}
	return append(dst, "]}\n"...)
}

// wholeLines returns where the last line that has an end ends.
func wholeLines(file io.Reader) (end int64, err error) {
	buf := make([]byte, 64<<10)
	for at := int64(0); ; {
		n, err := file.Read(buf)
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			end = at + int64(i) + 1
		}
		at += int64(n)
		if errors.Is(err, io.EOF) {
			return end, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// wholeMembers returns where the last whole gzip member ends, and the bytes of
// the text up to there.
func wholeMembers(file io.Reader) (end, text int64, err error) {
	in := &counted{from: file}
	var zip *gzip.Reader
	for {
		if zip == nil {
			zip, err = gzip.NewReader(in)
		} else {
			err = zip.Reset(in)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return end, text, nil
		}
		if err != nil {
			return 0, 0, err
		}
		zip.Multistream(false)
		n, err := io.Copy(io.Discard, zip)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return end, text, nil
		}
		if err != nil {
			return 0, 0, err
		}
		end, text = in.at, text+n
	}
}

// counted counts what was taken, byte by byte where a reader wants no more than
// it needs.
type counted struct {
	from      io.Reader
	at        int64
	buf       [64 << 10]byte
	next, end int
}

func (c *counted) fill() (err error) {
	for c.next == c.end && err == nil {
		c.next = 0
		if c.end, err = c.from.Read(c.buf[:]); c.end > 0 {
			return nil
		}
	}
	return err
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	if err := c.fill(); err != nil {
		return 0, err
	}
	n := copy(p, c.buf[c.next:c.end])
	c.next += n
	c.at += int64(n)
	return n, nil
}

// ReadByte implements io.ByteReader.
func (c *counted) ReadByte() (byte, error) {
	if err := c.fill(); err != nil {
		return 0, err
	}
	b := c.buf[c.next]
	c.next++
	c.at++
	return b, nil
}
