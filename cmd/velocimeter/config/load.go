package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/velocimeter/velocimeter/persist/sealed"
)

// Value is a raw value and where it came from.
type Value struct {
	Text   string
	Origin string // such as "--listen", "VELOCIMETER_LISTEN", "velocimeter.yaml:3", "default"
}

// Sources are the places that values come from, strongest first.
type Sources struct {
	Flags map[string]string // by Setting.Flag; only those that were given
	// Command is whose flags these are: two commands may use one name. 0 for all.
	Command Command
	Env     func(string) (string, bool)
	// Environ lists the environment, NAME=value, to find mistyped names; may be nil.
	Environ []string
	File    string // "" for none
	FileBy  string // what named the file, such as --config
}

// Loaded is a valid configuration and the origin of every value.
type Loaded struct {
	Config
	Values      map[string]Value // by Setting.Path
	Certificate *tls.Certificate // of the public listener; nil for plain
	StoreKeys   *sealed.Keys     // nil for a plain store
}

// ErrInvalid is what every error of Load is, for errors.Is.
var ErrInvalid = errors.New("the configuration is invalid")

// invalidError is every problem of a configuration, one a line.
type invalidError struct{ problems []error }

func (e *invalidError) Error() string        { return errors.Join(e.problems...).Error() }
func (e *invalidError) Is(target error) bool { return target == ErrInvalid }

// Load reads all sources and validates the result. The error joins every
// problem that was found, one line each.
func Load(src Sources) (*Loaded, error) {
	file, problems := readFile(src)
	problems = append(problems, strangers(src.Environ)...)
	l := &Loaded{Values: make(map[string]Value, len(table))}
	for i := range table {
		s := &table[i]
		v, ok := pick(s, src, file)
		if !ok {
			continue
		}
		l.Values[s.Path] = v
		if err := s.set(&l.Config, v.Text); err != nil {
			problems = append(problems, fmt.Errorf("%s: %s: %w", v.Origin, s.Path, err))
		}
	}
	if len(problems) == 0 {
		problems = l.crossCheck()
	}
	if len(problems) > 0 {
		return nil, &invalidError{problems}
	}
	return l, nil
}

// pick takes the strongest source that has the setting.
func pick(s *Setting, src Sources, file map[string]Value) (Value, bool) {
	if text, ok := src.Flags[s.Flag]; ok && s.Flag != "" && (src.Command == 0 || s.Used&src.Command != 0) {
		return Value{text, "--" + s.Flag}, true
	}
	if src.Env != nil {
		for _, name := range s.Env {
			if text, ok := src.Env(name); ok && text != "" {
				return Value{text, name}, true
			}
		}
		if s.Path == "coinmarketcap.keys" {
			if v, ok := numberedKeys(src.Env); ok {
				return v, true
			}
		}
	}
	if v, ok := file[s.Path]; ok {
		return v, true
	}
	return Value{s.Default, "default"}, s.Default != ""
}

// numberedKeys joins COINMARKETCAP_KEY_1, _2 and so on up to _64; some may be missing.
func numberedKeys(env func(string) (string, bool)) (Value, bool) {
	var keys []string
	for i := 1; i <= 64; i++ {
		k, ok := env("COINMARKETCAP_KEY_" + strconv.Itoa(i))
		if ok && k != "" {
			keys = append(keys, k)
		}
	}
	return Value{strings.Join(keys, ","), "COINMARKETCAP_KEY_1…"}, len(keys) > 0
}

// strangers finds variables that look like settings and are none. What
// container platforms inject for a service of our name is let pass.
func strangers(environ []string) (problems []error) {
	known := map[string]bool{"VELOCIMETER_CONFIG": true}
	for _, s := range table {
		for _, name := range s.Env {
			known[name] = true
		}
	}
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		injected := name == "VELOCIMETER_PORT" || strings.HasPrefix(name, "VELOCIMETER_PORT_") || strings.HasPrefix(name, "VELOCIMETER_SERVICE_")
		if strings.HasPrefix(name, "VELOCIMETER_") && !known[name] && !injected {
			problems = append(problems, fmt.Errorf("%s: unknown setting in the environment; `velocimeter config print` lists the known ones", name))
		}
	}
	return problems
}

// crossCheck finds what no single setting shows.
func (l *Loaded) crossCheck() (problems []error) {
	bad := func(path, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %s: %s", l.Values[path].Origin, path, fmt.Sprintf(format, args...)))
	}
	if l.Listen == l.AdminListen {
		bad("admin_listen", "is the same address as listen, %s", l.Listen)
	}
	if err := l.loadCertificate(); err != nil {
		path := "tls.cert"
		if l.TLS.Cert == "" {
			path = "tls.key"
		}
		bad(path, "%v", err)
	}
	if path, err := l.loadStoreKeys(); err != nil {
		bad(path, "%v", err)
	}
	if l.Engine.TrendOff > l.Engine.TrendOn {
		bad("engine.trend_off", "%v is above engine.trend_on, %v", l.Engine.TrendOff, l.Engine.TrendOn)
	}
	if l.Replay.File == "" {
		for _, path := range []string{"replay.speed", "replay.loop", "replay.from_start"} {
			if s, _ := find(path); l.Values[path].Text != s.Default {
				bad(path, "needs a replay.file (--replay)")
			}
		}
	}
	keep := l.Store
	if keep.Minutes != 0 && keep.FiveMinutes != 0 && keep.FiveMinutes < keep.Minutes {
		bad("store.keep_5m", "is shorter than store.keep_1m")
	}
	return problems
}

// loadCertificate reads the files of the public listener's certificate.
func (l *Loaded) loadCertificate() error {
	if l.TLS.Cert == "" && l.TLS.Key == "" {
		return nil
	}
	if l.TLS.Cert == "" || l.TLS.Key == "" {
		return errors.New("tls.cert and tls.key go together")
	}
	pair, err := tls.LoadX509KeyPair(l.TLS.Cert, l.TLS.Key)
	if err != nil {
		return fmt.Errorf("cannot use %q with the key %q: %w", l.TLS.Cert, l.TLS.Key, err)
	}
	l.Certificate = &pair
	return nil
}

// loadStoreKeys reads the keys of the store from where they are, which it returns
// for the error.
func (l *Loaded) loadStoreKeys() (path string, err error) {
	text, path := l.Store.Key, "store.key"
	if name := l.Store.KeyFile; name != "" {
		path = "store.key_file"
		if text != "" {
			return path, errors.New("store.key is set too; one of them is enough")
		}
		data, mode, err := readBounded(name)
		if err != nil {
			return path, fmt.Errorf("cannot read %q: %w", name, err)
		}
		if !l.AllowInsecurePermissions && insecure(mode) {
			return path, fmt.Errorf("others can read %q (mode %04o): chmod 600 %s, or set allow_insecure_permissions: true", name, mode, name)
		}
		text = string(data)
	} else if text == "" {
		return path, nil
	}
	l.StoreKeys, err = sealed.ParseKeys(text)
	return path, err
}

// Origins lists every setting with its effective value and origin, ready to
// print; secrets are masked.
func (l *Loaded) Origins() []string {
	width := 0
	for _, s := range table {
		width = max(width, len(s.Path))
	}
	var lines []string
	for _, s := range table {
		v, ok := l.Values[s.Path]
		if !ok {
			lines = append(lines, fmt.Sprintf("# %s:", s.Path))
			continue
		}
		if s.Secret && v.Text != "" {
			v.Text = s.masked(v.Text)
		}
		lines = append(lines, fmt.Sprintf("%-*s  %-36s # %s", width+1, s.Path+":", yamlText(v.Text), v.Origin))
	}
	return lines
}

// masked keeps the ends of keys, by which they are known elsewhere; a key of the
// store has no end to spare.
func (s *Setting) masked(list string) string {
	if s.Path == "store.key" {
		return "***"
	}
	keys := strings.Split(list, ",")
	for i, k := range keys {
		keys[i] = "***"
		if len(k) >= 16 {
			keys[i] += k[len(k)-4:]
		}
	}
	return strings.Join(keys, ",")
}

func yamlText(s string) string {
	if s == "" || strings.ContainsAny(s, ":#{}[],&*!|>'\"%@`") {
		return strconv.Quote(s)
	}
	return s
}

// OSEnv reads the process's environment.
func OSEnv(name string) (string, bool) { return os.LookupEnv(name) }

// find returns the setting of a YAML path.
func find(path string) (*Setting, bool) {
	i := slices.IndexFunc(table, func(s Setting) bool { return s.Path == path })
	if i < 0 {
		return nil, false
	}
	return &table[i], true
}
