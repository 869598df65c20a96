package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
)

// version is the release; builds from a checkout add the commit.
const version = "0.1.0"

// rawFlag keeps a flag's text: config validates every source the same way.
type rawFlag struct{ text string }

func (f *rawFlag) String() string     { return f.text }
func (f *rawFlag) Set(s string) error { f.text = s; return nil }
func (f *rawFlag) Type() string       { return "value" }

// command builds the tree of sub-commands.
func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "velocimeter",
		Short:         "Token velocity (24 h volume / market cap) of the crypto market, measured and streamed",
		Version:       fullVersion(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError("%w; `%s --help` lists the flags", err, cmd.CommandPath())
	})
	root.AddCommand(a.serveCommand(), a.marketCommand(), a.replayCommand(), a.recordCommand(), a.exportCommand(), a.importCommand(),
		a.verifyCommand(), a.backupCommand(), a.restoreCommand(), a.storeKeyCommand(), a.configCommand(), a.versionCommand())
	return root
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError("unknown argument %q; `%s --help` shows what is understood", args[0], cmd.CommandPath())
	}
	return nil
}

// addSettings gives a command the flags of the settings that it uses.
func addSettings(cmd *cobra.Command, used config.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.String("config", "", "YAML `file` with settings (environment VELOCIMETER_CONFIG)")
	for _, s := range config.Settings() {
		if s.Flag == "" || s.Used&used == 0 || flags.Lookup(s.Flag) != nil {
			continue
		}
		help := strings.ReplaceAll(s.Help, "`", "") // the flags' own meaning of it is another
		f := flags.VarPF(&rawFlag{text: s.Default}, s.Flag, "", help)
		f.DefValue = s.Default
		if s.Bool {
			f.NoOptDefVal = "true"
			f.DefValue = ""
		}
	}
}

// load reads the configuration of a command from all sources.
func (a *app) load(cmd *cobra.Command, used config.Command) (*config.Loaded, error) {
	src := config.Sources{Env: a.env, Flags: map[string]string{}, Command: used}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if raw, ok := f.Value.(*rawFlag); ok {
			src.Flags[f.Name] = raw.text
		}
	})
	src.File, src.FileBy = cmd.Flag("config").Value.String(), "--config"
	if src.File == "" {
		src.File, _ = a.env("VELOCIMETER_CONFIG")
		src.FileBy = "VELOCIMETER_CONFIG"
	}
	src.Environ = a.environ
	c, err := config.Load(src)
	return c, exitWith(exitConfig, err)
}

func (a *app) configCommand() *cobra.Command {
	parent := &cobra.Command{
		Use: "config", Short: "Check or print the configuration", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	check := &cobra.Command{
		Use: "check", Short: "Say whether the configuration is valid; nothing is started or created", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := a.load(cmd, config.Serve); err != nil {
				return err
			}
			_, err := fmt.Fprintln(a.stdout, "configuration is valid")
			return err
		},
	}
	show := &cobra.Command{
		Use: "print", Short: "Print every setting, its value and where it came from; secrets are masked", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load(cmd, config.Serve)
			if err != nil {
				return err
			}
			for _, line := range c.Origins() {
				if _, err := fmt.Fprintln(a.stdout, line); err != nil {
					return err
				}
			}
			return nil
		},
	}
	for _, cmd := range []*cobra.Command{check, show} {
		addSettings(cmd, config.Serve)
		parent.AddCommand(cmd)
	}
	return parent
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(a.stdout, "velocimeter %s (%s, %s/%s)\n", fullVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// fullVersion is the release with the commit it was built from, where known.
func fullVersion() string {
	if commit, _ := built(); len(commit) >= 12 {
		return version + "+" + commit[:12]
	}
	return version
}

// built returns the commit that the program was built from and its time; ""
// where the build did not note them.
func built() (commit, at string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", ""
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value
		case "vcs.time":
			at = s.Value
		}
	}
	return commit, at
}
