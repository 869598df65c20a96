package persist

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// manifestFile is written last: a folder without it is no backup.
const manifestFile = "BACKUP"

// backupFormat is the version of the manifest.
const backupFormat = 1

// maxManifest bounds what is read of a manifest, in bytes: some 100 a file.
const maxManifest = 64 << 20

// Manifest describes a backup.
type Manifest struct {
	Format  int       `json:"format"`
	Lineage string    `json:"lineage"`
	Epoch   string    `json:"epoch"`
	Seq     uint64    `json:"seq"`  // newest tick that can be restored
	Time    int64     `json:"time"` // its instant, ms since 1970
	Made    time.Time `json:"made"` // by the machine's clock
	Records uint64    `json:"records"`
	Bytes   int64     `json:"bytes"` // of all files
	Files   []File    `json:"files"`
}

// File is one file of a backup.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// fileName bounds what a manifest can name: files of the backup's own folder.
var fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// encode returns the manifest's file: a line of JSON, and a line with its checksum.
func (m *Manifest) encode() ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	return fmt.Appendf(text, "\n%x\n", sum), nil
}

func decodeManifest(data []byte) (*Manifest, error) {
	const tail = 1 + 2*sha256.Size + 1
	if len(data) < tail {
		return nil, fmt.Errorf("%w: the manifest of a backup has %d bytes", ErrCorrupt, len(data))
	}
	text := data[:len(data)-tail]
	sum := sha256.Sum256(text)
	if string(data[len(text):]) != "\n"+hex.EncodeToString(sum[:])+"\n" {
		return nil, fmt.Errorf("%w: checksum of the manifest of a backup", ErrCorrupt)
	}
	m := &Manifest{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("%w: manifest of a backup: %w", ErrCorrupt, err)
	}
	if m.Format != backupFormat {
		return nil, fmt.Errorf("%w: backup format %d, known is %d", ErrFormat, m.Format, backupFormat)
	}
	if !lineageName.MatchString(m.Lineage) || !epochText.MatchString(m.Epoch) {
		return nil, fmt.Errorf("%w: a backup of lineage %q, epoch %q", ErrCorrupt, m.Lineage, m.Epoch)
	}
	for _, f := range m.Files {
		if !fileName.MatchString(f.Name) || f.Name == lockFile || f.Name == manifestFile {
			return nil, fmt.Errorf("%w: a backup with a file %q", ErrCorrupt, f.Name)
		}
	}
	return m, nil
}

// readManifest reads the manifest in a folder.
func readManifest(files vfs.FS, dir string) (*Manifest, error) {
	f, err := files.Open(files.PathJoin(dir, manifestFile))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return nil, err
	}
	return decodeManifest(data)
}

// sumFile returns a file's size and checksum.
func (v *verifier) sumFile(name string) (size int64, sum string, err error) {
	f, err := v.o.FS.Open(v.o.FS.PathJoin(v.o.Dir, name), vfs.SequentialReadsOption)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	size, err = io.Copy(h, guarded{v.ctx, f})
	return size, hex.EncodeToString(h.Sum(nil)), err
}

// files checks the files of a backup against its manifest; a lineage has none.
func (v *verifier) files(names []string) {
	there := map[string]bool{}
	for _, name := range names {
		there[name] = true
	}
	if !there[manifestFile] {
		return
	}
	bad := func(name, format string, args ...any) {
		v.rep.add(Fault{Kind: "file", Key: name, What: fmt.Sprintf(format, args...)})
	}
	m, err := readManifest(v.o.FS, v.o.Dir)
	if err != nil {
		bad(manifestFile, "%v", err)
		return
	}
	v.rep.Backup = m
	delete(there, manifestFile)
	delete(there, lockFile)
	for _, f := range m.Files {
		if !there[f.Name] {
			bad(f.Name, "is missing")
			continue
		}
		delete(there, f.Name)
		size, sum, err := v.sumFile(f.Name)
		switch {
		case v.ctx.Err() != nil:
			v.err = v.ctx.Err()
			return
		case err != nil:
			bad(f.Name, "%v", err)
		case size != f.Size:
			bad(f.Name, "has %d bytes, not %d", size, f.Size)
		case sum != f.SHA256:
			bad(f.Name, "is not what was written: its checksum differs")
		}
	}
	for name := range there {
		bad(name, "does not belong to the backup")
	}
}
