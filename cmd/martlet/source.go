package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"martlet/config"
)

// source is where a command has its configuration from: flags before environment before file.
type source struct {
	file     string
	profiles string // the folder of --profiles
	profile  string // whose file it is; empty: no profile's
	set      []string
	from     *config.Source // since load
	control  string         // in place of the control socket that the configuration names; see settle
	files    config.Files   // that read it; nil is this process by itself
}

// add adds -c and --set.
func (s *source) add(cmd *cobra.Command) {
	configFlag(cmd, &s.file)
	s.addSet(cmd)
}

func (s *source) addSet(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&s.set, "set", nil, "set a `KEY=VALUE` of the configuration, as in node.mtu=1280; may be repeated")
}

// configFlag adds -c.
func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", "", "configuration `FILE`; default: the environment's MARTLET_CONFIG")
	if err := cmd.MarkFlagFilename("config", "toml"); err != nil {
		panic(err) // the flag was just made
	}
}

// setting is a key of the configuration that a flag stands for.
type setting struct{ flag, key, value string }

// load reads the configuration and prints its warnings. More are settings of flags, that
// --set comes before.
func (s *source) load(cmd *cobra.Command, more ...setting) (*config.Config, error) {
	if s.file == "" {
		s.file = os.Getenv("MARTLET_CONFIG")
	}
	var set []string
	for _, m := range more {
		set = append(set, m.key+"="+m.value)
	}
	s.from = config.NewSource(s.file, append(set, s.set...))
	s.from.Files = s.files
	c, err := s.again()
	if err != nil {
		return nil, byFlags(err, more)
	}
	s.settle(cmd.Context(), c)
	if s.file == "" && len(c.Connections) == 0 {
		named := "-c FILE"
		if cmd.Flags().Lookup("config") == nil {
			named = cmd.CommandPath() + " FILE"
		}
		return nil, usage(cmd, errors.New("the configuration is not named: "+named))
	}
	if parent != nil { // which has told the warnings
		parent.forget()
		return c, nil
	}
	for _, w := range c.Warnings {
		fmt.Fprintln(cmd.ErrOrStderr(), w)
	}
	return c, nil
}

// byFlags names the flags in faults, where a person gave flags and no keys.
func byFlags(err error, given []setting) error {
	faults, ok := errors.AsType[config.Errors](err)
	if !ok {
		return err
	}
	for _, fault := range faults {
		i := slices.IndexFunc(given, func(s setting) bool {
			return fault.File == "--set" && fault.Key != "" && (s.key == fault.Key || strings.HasPrefix(s.key, fault.Key+"."))
		})
		if i >= 0 {
			fault.File, fault.Key = given[i].flag, ""
		}
	}
	return err
}

// again reads the same once more.
func (s *source) again() (*config.Config, error) {
	c, err := s.from.Load()
	if err == nil && c.Node.Control == systemSocket() {
		c.Node.Control = defaultSocket()
	}
	if err == nil && s.control != "" {
		c.Node.Control = s.control
	}
	return c, err
}

// systemSocket is the control socket that a file names that says nothing.
func systemSocket() string {
	c, err := config.Parse("", nil, "", nil)
	if err != nil {
		panic(err) // an empty file has no faults
	}
	return c.Node.Control
}

// defaultSocket is that, or, for users that cannot have it, one in the folder of their session.
func defaultSocket() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); os.Getuid() > 0 && parent == nil && filepath.IsAbs(dir) {
		return filepath.Join(dir, "martlet", "control.sock")
	}
	return systemSocket()
}

// doorFlags are the flags for ways into a tunnel that ends in this process.
type doorFlags struct {
	userspace bool
	proxy     string
	user      string
	password  string
	local     []string
	remote    []string
	dns       string
	monitor   string
	open      bool
}

func (d *doorFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	addUserspace(cmd, &d.userspace, "have packets end in this process: no root, no device, and only what uses the ways below is protected")
	f.StringVar(&d.proxy, "proxy", "", "open a SOCKS5 and HTTP proxy on `ADDRESS`, 127.0.0.1:1080 for example")
	f.StringVar(&d.user, "proxy-user", "", "let nobody use the proxy but this `USER`")
	f.StringVar(&d.password, "proxy-password-file", "", "with the password in `FILE`")
	f.StringArrayVarP(&d.local, "local", "L", nil, "forward a port of this host into the tunnel: `[udp:][bind:]port:host:port`")
	f.StringArrayVarP(&d.remote, "remote", "R", nil, "forward a port inside the tunnel to this host: `[udp:][bind:]port:host:port`")
	f.StringVar(&d.dns, "dns", "", "relay DNS from `ADDRESS` to the resolvers inside the tunnel")
	f.BoolVar(&d.open, "open", false, "let other hosts use what these flags open, without a password")
	monitorFlag(cmd, &d.monitor)
}

func addUserspace(cmd *cobra.Command, to *bool, text string) {
	cmd.Flags().BoolVar(to, "userspace", false, text)
}

func monitorFlag(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVar(to, "monitor", "", "answer probes and Prometheus over HTTP on `ADDRESS`, 127.0.0.1:9586 for example")
}

// settings are the flags as keys of the configuration.
func (d *doorFlags) settings() []setting {
	var out []setting
	set := func(flag, key, value string) {
		if value != "" {
			out = append(out, setting{flag, key, value})
		}
	}
	open := func(key string) {
		if d.open {
			set("--open", key+".open", "true")
		}
	}
	if d.userspace {
		set("--userspace", "node.mode", config.ModeUserspace)
	}
	set("--monitor", "node.monitor", d.monitor)
	if d.proxy != "" || d.user != "" || d.password != "" {
		set("--proxy", "proxy.flag.listen", d.proxy)
		set("--proxy-user", "proxy.flag.user", d.user)
		if d.password != "" {
			set("--proxy-password-file", "proxy.flag.password", "file:"+d.password)
		}
		open("proxy.flag")
	}
	for i, text := range d.local {
		key := fmt.Sprintf("forward.local-%d", i+1)
		set("-L", key+".local", text)
		open(key)
	}
	for i, text := range d.remote {
		set("-R", fmt.Sprintf("forward.remote-%d.remote", i+1), text)
	}
	if d.dns != "" {
		set("--dns", "dns.listen", d.dns)
		open("dns")
	}
	return out
}

// changed names the flags that are given, for a martlet that runs already and cannot heed them.
func changed(cmd *cobra.Command) string {
	var names []string
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Name != "config" && f.Name != "profiles" && f.Name != "verbose" {
			names = append(names, "--"+f.Name)
		}
	})
	return strings.Join(names, ", ")
}
