package recording

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"

	"github.com/velocimeter/velocimeter/transport/upstream/jsonscan"
)

// Bounds of a recording.
const (
	maxLine     = 64 << 20 // bytes of a line; 20,000 coins with everything that is told of them
	maxDocument = maxLine  // bytes of a listings document spread over lines
	maxText     = 4 << 30  // bytes of the whole text
	maxPolls    = 10_000_000
)

// text hands out a recording's text in documents: lines, or the whole file
// where its first line is not a document by itself.
type text struct {
	in    *bufio.Reader
	zip   *gzip.Reader
	sum   hash.Hash // of the text as it is read; nil when nobody asks
	buf   []byte
	line  int   // number of the line that next returned, from 1
	read  int64 // bytes so far
	whole bool  // the document is the whole file
}

func newText(file io.Reader) (*text, error) {
	in := bufio.NewReaderSize(file, 64<<10)
	magic, err := in.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	t := &text{in: in}
	if bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		if t.zip, err = gzip.NewReader(in); err != nil {
			return nil, err
		}
		t.in = bufio.NewReaderSize(t.zip, 64<<10)
	}
	return t, nil
}

func (t *text) close() {
	if t.zip != nil {
		_ = t.zip.Close()
	}
}

// next returns the next document, valid until the call after; io.EOF at the end.
func (t *text) next() ([]byte, error) {
	t.buf = t.buf[:0]
	t.line++
	if err := t.more(maxLine); err != nil {
		return nil, err
	}
	if t.line > 1 || complete(t.buf) {
		return t.buf, nil
	}
	t.whole = true
	for {
		err := t.more(maxDocument)
		if errors.Is(err, io.EOF) {
			return t.buf, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// more appends one line with its end to the buffer.
func (t *text) more(limit int) error {
	start := len(t.buf)
	for {
		part, err := t.in.ReadSlice('\n')
		t.buf = append(t.buf, part...)
		t.read += int64(len(part))
		if t.sum != nil {
			_, _ = t.sum.Write(part)
		}
		switch {
		case len(t.buf) > limit:
			return fmt.Errorf("longer than %d MiB", limit>>20)
		case t.read > maxText:
			return fmt.Errorf("the recording is larger than %d GiB", maxText>>30)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == io.EOF && len(t.buf) > start:
			return nil
		}
		return err
	}
}

// complete reports whether text is one JSON document, or wrong within itself
// rather than cut off: only the latter may go on in the next line.
func complete(text []byte) bool {
	var s jsonscan.Scanner
	s.Reset(text)
	s.Skip()
	err := s.End()
	if err == nil || len(bytes.TrimSpace(text)) == 0 {
		return err == nil
	}
	var e *jsonscan.Error
	return !errors.As(err, &e) || e.Offset < len(text)
}

// lineOf returns the line in which an error of the last document is.
func (t *text) lineOf(err error) int {
	var e *jsonscan.Error
	if t.whole && errors.As(err, &e) && e.Offset <= len(t.buf) {
		return t.line + bytes.Count(t.buf[:e.Offset], []byte("\n"))
	}
	return t.line
}
