package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"martlet/config"
	"martlet/config/profile"
	"martlet/config/store"
)

// maxProfile bounds a file to import, in octets, as config bounds its own.
const maxProfile = 1 << 20

func newImport() *cobra.Command {
	var i importer
	cmd := &cobra.Command{
		Use:   "import FILE|- | import --preset PROVIDER [USER@]HOST",
		Short: "Make a profile of what another program has",
		Long: `Import turns the file of another program into a profile, which martlet up NAME brings up: Apple's
.mobileconfig, strongSwan's .sswan, swanctl.conf and ipsec.conf, that of Libreswan, NetworkManager's
keyfiles, ChromeOS's ONC, Windows' phone books, AWS's gateway files, and Martlet's own TOML. With - it
is read from standard input, and then no file beside it. What is not carried over is told, and
what somebody has to do before the profile works.

Nothing is written before the result was checked as martlet check does. Profiles of root are
those of the system, others are of their user alone. Secrets are written to files that nobody else
can read. A password of a certificate file is asked for on the terminal. All connections of a
file become one profile: martlet up NAME CONNECTION.

With --preset it makes a profile for the gateway HOST of a provider, by what is known to be right for that: identities,
algorithms, and which certificate its gateways are below. Presets hold no certificate and no list of gateways; what to
fetch, and from where, is told. Others are added by --presets, in TOML as Martlet's own.`,
		Example: `  martlet import office.mobileconfig
  sudo martlet import /etc/swanctl/swanctl.conf --name site
  martlet import --dry-run office.sswan
  martlet import --preset nordvpn --ca root.der alice@ch217.nordvpn.com`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return i.run(cmd, args[0]) },
	}
	profilesFlag(cmd, &i.folder)
	cmd.Flags().StringVar(&i.name, "name", "", "call the profile `NAME`; default: as the file or the preset")
	cmd.Flags().StringVar(&i.preset, "preset", "", "make a profile for a gateway of `PROVIDER`")
	cmd.Flags().StringVar(&i.presets, "presets", "", "know the presets in the files *.toml of `FOLDER` too")
	cmd.Flags().StringVar(&i.ca, "ca", "", "take the certificate of the provider's authority from `FILE`")
	cmd.Flags().StringVar(&i.passwordFile, "password-file", "", "take the password of a certificate file from `FILE` rather than ask for it")
	cmd.Flags().BoolVar(&i.force, "force", false, "replace a profile of this name, with all its files")
	cmd.Flags().BoolVar(&i.dryRun, "dry-run", false, "print the configuration without the secrets in other files, and write nothing")
	return cmd
}

// importer is martlet import with its flags.
type importer struct {
	folder       string
	name         string
	passwordFile string
	preset       string
	presets      string // a folder
	ca           string // a file
	force        bool
	dryRun       bool
}

// imported is a profile that is not written yet.
type imported struct {
	store.Contents
	notes []profile.Note
}

func newImported() *imported {
	return &imported{Contents: store.Contents{Origin: store.Origin{Imported: time.Now().UTC().Truncate(time.Second)}}}
}

func (i *importer) run(cmd *cobra.Command, file string) error {
	read := i.read
	if i.preset != "" {
		read = i.fromPreset
	} else if i.presets != "" || i.ca != "" {
		return usage(cmd, errors.New("--presets and --ca are for --preset"))
	}
	in, err := read(cmd, file)
	if err != nil {
		return err
	}
	name := cmp.Or(i.name, i.preset, nameOf(in.Origin.File))
	if name == "" {
		return usage(cmd, errors.New("what comes from standard input has no name: --name NAME"))
	}
	if err := store.CheckName(name); err != nil {
		return err
	}
	var c *config.Config
	var faults config.Errors
	check := func(folder string) error {
		c, faults, err = in.check(folder)
		return err
	}
	if i.dryRun {
		if err := in.Try(check); err != nil {
			return err
		}
		if in.Text, err = config.Redact(in.Text); err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(in.Text)
		return err
	}
	profiles, err := openStore(i.folder)
	if err != nil {
		return err
	}
	if err := profiles.Add(name, in.Contents, i.force, check); err != nil {
		return err
	}
	p, err := profiles.Find(name)
	if err != nil {
		return err
	}
	if c != nil {
		for _, w := range c.Warnings {
			if !in.tells(w) {
				fmt.Fprintln(cmd.ErrOrStderr(), w)
			}
		}
	}
	printImported(cmd.OutOrStdout(), p, in, c, faults, i.folder)
	return nil
}

// read reads the file, and what it names.
func (i *importer) read(cmd *cobra.Command, file string) (*imported, error) {
	in := newImported()
	o := profile.Options{Password: i.password(cmd, file)}
	reader, called := cmd.InOrStdin(), "standard input"
	if file != "-" {
		called = file
		f, err := os.Open(file)
		if err != nil {
			return nil, unreadable(file, err)
		}
		defer f.Close()
		full, err := filepath.Abs(file)
		if err != nil {
			return nil, unreadable(file, err)
		}
		root, err := os.OpenRoot(filepath.Dir(full))
		if err != nil {
			return nil, unreadable(file, err)
		}
		defer root.Close()
		reader, in.Origin.File = f, filepath.Base(file)
		o.Name, o.Files, o.Folder = in.Origin.File, root.FS(), filepath.Dir(full)
	}
	data, err := io.ReadAll(io.LimitReader(reader, maxProfile+1))
	if err != nil {
		return nil, unreadable(called, err)
	}
	if len(data) <= maxProfile && (strings.EqualFold(filepath.Ext(file), ".toml") || ownTable().Match(data)) {
		return in, in.readOwn(called, data, o.Files)
	}
	from, err := profile.Import(data, o)
	if err == nil {
		err = in.take(from)
	}
	if err != nil {
		return nil, notImported(called, err)
	}
	return in, nil
}

// take makes it what came from another format.
func (in *imported) take(from *profile.Imported) (err error) {
	if in.Text, err = from.TOML(); err != nil {
		return err
	}
	in.Files, in.notes = from.Files, from.Notes
	in.Origin.Format, in.Origin.Signed = from.Format, from.Signed
	return nil
}

// ownTable matches the header of a table that only a configuration of Martlet has.
var ownTable = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^[ \t]*\[(connection|pool|user|radius|proxy|forward)\.[^\]\r\n]+\][ \t\r]*$`)
})

// readOwn reads a configuration of Martlet, with those files that it names by relative paths in its
// folder, which standard input does not have.
func (in *imported) readOwn(file string, data []byte, files fs.FS) error {
	in.Text, in.Files, in.Origin.Format = data, map[string][]byte{}, "Martlet configuration (.toml)"
	if files != nil {
		// It tells who else may read the secrets, and each fault with its line.
		if _, err := config.Load(file); err != nil {
			return err
		}
	}
	names, err := config.NamedFiles(data)
	if err != nil {
		return notImported(file, &profile.Error{What: err.Error()})
	}
	for _, name := range names {
		if files == nil || !fs.ValidPath(name) {
			return &store.Error{
				What: fmt.Sprintf("%s names %s, which is not in its folder", file, name),
				Why:  "a profile has its files beside it", Hint: "write the absolute path, or copy it there",
			}
		}
		content, err := readBounded(files, name)
		if err != nil {
			return &store.Error{What: fmt.Sprintf("%s names %s, which cannot be taken over", file, name), Why: err.Error(), Hint: "write the absolute path to leave it where it is"}
		}
		in.Files[name] = content
	}
	return nil
}

func readBounded(files fs.FS, name string) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("it is not a regular file"))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxProfile+1))
	if err == nil && len(data) > maxProfile {
		err = fmt.Errorf("it has more than %d octets", maxProfile)
	}
	return data, err
}

// check reads the configuration in a folder with all its files. What the notes say is missing is no
// error: then the faults tell it.
func (in *imported) check(folder string) (*config.Config, config.Errors, error) {
	c, err := config.Parse("the imported profile", in.Text, folder, os.LookupEnv)
	faults, ok := errors.AsType[config.Errors](err)
	if !ok {
		return c, nil, err
	}
	for _, f := range faults {
		// The folder is gone when somebody reads this.
		f.Reason = strings.ReplaceAll(f.Reason, folder+string(filepath.Separator), "")
		f.Hint = strings.ReplaceAll(f.Hint, folder+string(filepath.Separator), "")
	}
	if slices.ContainsFunc(in.notes, func(n profile.Note) bool { return n.Needed }) {
		return nil, faults, nil
	}
	return nil, nil, faults
}

// tells whether a note tells of what a warning is about: the profile's own words are the better place.
func (in *imported) tells(w config.Warning) bool {
	return slices.ContainsFunc(in.notes, func(n profile.Note) bool { return strings.HasSuffix(n.Text, w.Text) })
}

// password answers questions for the password of a certificate file.
func (i *importer) password(cmd *cobra.Command, file string) func(string) (string, bool) {
	if i.passwordFile != "" {
		return func(string) (string, bool) {
			s, err := config.ParseSecret("file:"+i.passwordFile, "", nil)
			if err != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "martlet: --password-file: %v\n", err)
				return "", false
			}
			return string(s.Value), true
		}
	}
	if file == "-" || !term.IsTerminal(int(os.Stdin.Fd())) {
		return nil
	}
	t := newTypist(os.Stdin, cmd.ErrOrStderr())
	return func(what string) (string, bool) {
		password, err := t.secret(cmd.Context(), fmt.Sprintf("Password of %s: ", what))
		return string(password), err == nil && len(password) > 0
	}
}

// nameOf makes a profile's name of a file's; empty if nothing is left of it.
func nameOf(file string) string {
	name := strings.Map(func(r rune) rune {
		if r > ' ' && store.CheckName("a"+string(r)+"a") == nil {
			return r
		}
		return '-'
	}, strings.TrimSuffix(file, filepath.Ext(file)))
	if name = strings.Trim(name[:min(len(name), 40)], "-._"); store.CheckName(name) != nil {
		return strings.ReplaceAll(name, ".", "-")
	}
	return name
}

// printImported tells what was imported and what comes next.
func printImported(w io.Writer, p *store.Profile, in *imported, c *config.Config, faults config.Errors, folder string) {
	from := "standard input"
	if in.Origin.File != "" {
		from = in.Origin.File
	}
	fmt.Fprintf(w, "%s is imported from %s: %s\n", p.Name, from, in.Origin.Format)
	if in.Origin.Signed != "" {
		fmt.Fprintf(w, "  %s\n", in.Origin.Signed)
	}
	fmt.Fprintf(w, "  it is in %s\n", p.Folder)
	printNotes(w, "Not carried over, or changed:", in.notes, false)
	printNotes(w, "To be done before it works:", in.notes, true)
	fmt.Fprintln(w, "Next:")
	if folder != "" {
		folder = " --profiles " + folder
	}
	if len(faults) > 0 {
		fmt.Fprintf(w, "  martlet check %s%s\n", p.Name, folder)
		return
	}
	for _, line := range nextCommands(p, c, folder) {
		fmt.Fprintf(w, "  %s\n", line)
	}
}

func printNotes(w io.Writer, title string, notes []profile.Note, needed bool) {
	for _, n := range notes {
		if n.Needed == needed {
			if title != "" {
				fmt.Fprintln(w, title)
				title = ""
			}
			fmt.Fprintf(w, "  %s\n", n)
		}
	}
}

// nextCommands are what brings the profile up: one connection, if there are several, or a gateway.
// flag is --profiles, if that is needed.
func nextCommands(p *store.Profile, c *config.Config, flag string) []string {
	word, sudo := p.Name, ""
	if os.Getenv("SUDO_USER") != "" {
		sudo = "sudo "
	}
	opens := slices.DeleteFunc(sortedNames(c), func(name string) bool { return len(c.Connections[name].Remote) == 0 })
	switch {
	case len(opens) == 0 || len(c.Pools) > 0:
		return []string{sudo + "martlet serve -c " + p.Path()}
	case len(c.Connections) > 1:
		word += " " + opens[0]
	}
	if os.Geteuid() <= 0 { // root, or a system that does not know it
		return []string{sudo + "martlet up " + word + flag}
	}
	return []string{
		"martlet up " + word + flag + " --userspace --proxy 127.0.0.1:1080",
		"or for all programs: sudo martlet import " + p.Path() + " --name " + p.Name + " && sudo martlet up " + word,
	}
}

// unreadable is the error for a file that a command was given.
func unreadable(file string, err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	hint := "name a file, or - for standard input"
	if errors.Is(err, fs.ErrPermission) {
		hint = "have its owner let you read it, or start as the user that may"
	}
	return &store.Error{What: file + " cannot be read", Why: err.Error(), Hint: hint}
}

// notImported names the file in an error of package profile.
func notImported(file string, err error) error {
	e, ok := errors.AsType[*profile.Error](err)
	if !ok {
		return err
	}
	return &store.Error{What: file + ": " + e.What, Why: e.Why, Hint: e.Hint}
}
