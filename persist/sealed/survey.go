package sealed

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Files counts files and the bytes that they take.
type Files struct {
	Count int
	Bytes int64
}

// found is a file of the store, by its beginning.
type found struct {
	name string
	size int64
	what look
	header
}

// Open looks at a store's folder, which need not be there, and returns the layer for
// it: nil without keys and encrypted files. Nothing is changed, and every error names
// what to do. Errors: ErrKey, ErrDamaged where a file is of another store or not
// encrypted as the others are.
func Open(fs vfs.FS, dir string, keys *Keys) (*Layer, error) {
	all, err := survey(fs, dir)
	if err != nil {
		return nil, err
	}
	if keys == nil {
		if i := slices.IndexFunc(all, func(f found) bool { return f.what == looksSealed }); i >= 0 {
			return nil, fmt.Errorf("%w: the store is encrypted with the key %s; name its file in store.key_file, or set VELOCIMETER_STORE_KEY", ErrKey, all[i].key)
		}
		return nil, nil
	}
	l := &Layer{keys: keys, dir: dir}
	if l.store, err = check(all, keys); err != nil {
		return nil, err
	}
	return l, nil
}

// check finds the files that do not fit the keys and one another.
func check(all []found, keys *Keys) (id storeID, err error) {
	whose := ""
	for _, f := range all { // the newest manifest comes last, and says whose store it is
		if f.what == looksSealed {
			if keys.read[f.key] == nil {
				return id, keys.lacks(f.name, f.key)
			}
			id, whose = f.store, f.name
		}
	}
	for _, f := range all {
		switch {
		case f.what == looksNewer:
			return id, fmt.Errorf("%w: %q was encrypted by a newer program", ErrKey, f.name)
		case f.what == looksSealed && f.store != id:
			return id, damaged(f.name, "is of another store than %q; take it away, or restore the folder from a backup", whose)
		case f.what != looksPlain || keys.plain:
		case whose == "":
			return id, fmt.Errorf("%w: the store is not encrypted; to have it encrypted, add a last line with the word plain to the key file until no file needs it, or open the store without a key", ErrKey)
		default:
			return id, damaged(f.name, "is not encrypted, %q is; restore the folder from a backup, or, where encryption was under way, add a last line with the word plain to the key file", whose)
		}
	}
	if whose == "" {
		_, _ = rand.Read(id[:]) // never fails, see crypto/rand
	}
	return id, nil
}

// lacks says which key is missing.
func (k *Keys) lacks(name string, id keyID) error {
	return fmt.Errorf("%w: %q is encrypted with the key %s, and there are only %s; add that key as a further line of the key file", ErrKey, name, id, strings.Join(k.ids, ", "))
}

// Old counts and names the files that the first key does not read: with none left,
// the others may go.
func (l *Layer) Old(fs vfs.FS, dir string) (old Files, names []string, err error) {
	all, err := survey(fs, dir)
	if err != nil {
		return old, nil, err
	}
	for _, f := range all {
		if l.old(&f) {
			old.Count++
			old.Bytes += f.size
			names = append(names, f.name)
		}
	}
	return old, names, nil
}

func (l *Layer) old(f *found) bool {
	switch {
	case f.what == looksPlain:
		return l.keys.write != nil
	case f.what != looksSealed:
		return false
	}
	return l.keys.write == nil || f.key != l.keys.write.id
}

// survey reads the beginnings of a store's files, sorted so that the one that says
// whose they are comes last.
func survey(fs vfs.FS, dir string) (all []found, err error) {
	return surveyed(fs, dir, func(_ string, err error) error { return err })
}

// surveyed is survey; bad decides what becomes of a file that cannot be looked at.
func surveyed(fs vfs.FS, dir string, bad func(name string, err error) error) (all []found, err error) {
	names, err := fs.List(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot look into %q: %w", dir, err)
	}
	slices.SortFunc(names, func(a, b string) int {
		rank := func(name string) int {
			if strings.HasPrefix(name, "MANIFEST-") {
				return 1
			}
			return 0
		}
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for _, name := range names {
		if !known(name) {
			continue
		}
		more, err := lookAt(fs, fs.PathJoin(dir, name), name)
		if errors.Is(err, os.ErrNotExist) { // pebble took it away
			continue
		}
		if err != nil {
			if err := bad(name, err); err != nil {
				return nil, err
			}
			continue
		}
		all = append(all, more...)
	}
	return all, nil
}

func lookAt(fs vfs.FS, path, name string) (all []found, err error) {
	info, err := fs.Stat(path)
	if err != nil || info.IsDir() {
		return nil, err
	}
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if kindOf(name) == kindSlots {
		return lookAtSlots(f, name, info.Size())
	}
	b, err := readHead(f)
	if err != nil {
		return nil, err
	}
	h, what := parseHeader(b)
	return []found{{name: name, size: info.Size(), what: what, header: h}}, nil
}

// lookAtSlots counts a mark once for every slot.
func lookAtSlots(f vfs.File, name string, size int64) (all []found, err error) {
	for at := int64(0); at < min(size, maxSlots*slotBytes); at += slotBytes {
		b := make([]byte, headerBytes)
		n, err := f.ReadAt(b, at)
		if n == 0 {
			return all, err
		}
		h, what := parseHeader(b[:n])
		all = append(all, found{name: name, size: min(size-at, slotBytes), what: what, header: h})
	}
	return all, nil
}
