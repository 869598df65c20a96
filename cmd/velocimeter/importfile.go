package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
)

// sheetFile is a file that can be read several times, gzipped or not.
type sheetFile struct {
	name  string // for messages
	file  *os.File
	spool bool // a copy of what comes once only
	seed  maphash.Seed
	hash  maphash.Hash
	lines int // of its text that were read so far
}

// openSheet opens a file. What can be read once only is copied to a temporary one.
func openSheet(name string) (*sheetFile, error) {
	s := &sheetFile{name: name, file: os.Stdin, seed: maphash.MakeSeed()}
	if name == "-" {
		s.name = "standard input"
	} else {
		f, err := os.Open(name)
		if err != nil {
			return nil, exitWith(exitData, fmt.Errorf("cannot open the file: %w", err))
		}
		s.file = f
	}
	info, err := s.file.Stat()
	if err == nil && info.IsDir() {
		err = errors.New("it is a folder")
	}
	if err == nil && !info.Mode().IsRegular() {
		err = s.copy()
	}
	if err != nil {
		s.close()
		return nil, exitWith(exitData, fmt.Errorf("cannot read %s: %w", s.name, err))
	}
	return s, nil
}

// copy takes all of a stream into a temporary file.
func (s *sheetFile) copy() error {
	f, err := os.CreateTemp("", "velocimeter-import-*")
	if err != nil {
		return err
	}
	from := s.file
	s.file, s.spool = f, true
	_, err = io.Copy(f, from)
	return errors.Join(err, from.Close())
}

func (s *sheetFile) close() {
	_ = s.file.Close() // read only
	if s.spool {
		_ = os.Remove(s.file.Name())
	}
}

// rewind begins to read anew.
func (s *sheetFile) rewind() (io.Reader, error) {
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	s.hash.SetSeed(s.seed)
	s.lines = 0
	b := bufio.NewReaderSize(io.TeeReader(s.file, &s.hash), 1<<18)
	if head, _ := b.Peek(2); bytes.Equal(head, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, err
		}
		return lineCounter{z, &s.lines}, nil
	}
	return lineCounter{b, &s.lines}, nil
}

// lineCounter counts the lines of what is read.
type lineCounter struct {
	io.Reader
	n *int
}

func (c lineCounter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	*c.n += bytes.Count(p[:n], []byte("\n"))
	return n, err
}

// print is a fingerprint of what was read since.
func (s *sheetFile) print() uint64 { return s.hash.Sum64() }
