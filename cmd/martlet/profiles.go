package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"martlet/config"
	"martlet/config/store"
)

// profilesFlag adds --profiles.
func profilesFlag(cmd *cobra.Command, folder *string) {
	cmd.Flags().StringVar(folder, "profiles", "", "keep profiles in `FOLDER`; default: the environment's MARTLET_PROFILES, or for root the system's folder, and for others their own")
	if err := cmd.MarkFlagDirname("profiles"); err != nil {
		panic(err) // the flag was just made
	}
}

// openStore is where profiles are: the folder of the flag, of the environment, or that of whoever
// runs this.
func openStore(folder string) (*store.Store, error) {
	if folder == "" {
		folder = os.Getenv("MARTLET_PROFILES")
	}
	if folder != "" {
		full, err := filepath.Abs(folder)
		return &store.Store{Folder: full}, err
	}
	folder, err := store.Default()
	return &store.Store{Folder: folder}, err
}

// named tells whether a flag or the environment names the file.
func (s *source) named() bool { return s.file != "" || os.Getenv("MARTLET_CONFIG") != "" }

// take takes the file of the profile that a word names, if no file is named; false where there is no
// such profile.
func (s *source) take(word string) (bool, error) {
	if s.named() || store.CheckName(word) != nil {
		return false, nil
	}
	return s.takeAlways(word)
}

// takeAlways is take for a word that counts more than what the environment names.
func (s *source) takeAlways(word string) (bool, error) {
	profiles, err := openStore(s.profiles)
	if err != nil {
		return false, nil //nolint:nilerr // who has no folder, in a container, has no profiles
	}
	p, err := profiles.Find(word)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s.file, s.profile = p.Path(), p.Name
	return true, nil
}

// choose takes the file that the one of args names, or else the profile, and returns what a person
// calls it.
func (s *source) choose(args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	s.file = args[0]
	if info, err := os.Stat(s.file); err == nil && info.Mode().IsRegular() {
		return s.file, nil
	}
	took, err := s.takeAlways(args[0])
	if !took && err == nil && store.CheckName(args[0]) == nil && !strings.Contains(args[0], ".") {
		err = s.unknown(args[0], ", or a file")
	}
	return args[0], err // config tells what is wrong with the path of a file
}

// pick takes the file of the profile that the first of args names, or of the only one there is, and
// returns the other args. Where no profile is meant they are all returned.
func (s *source) pick(cmd *cobra.Command, args []string) ([]string, error) {
	if parent != nil { // what it picked
		s.file = parent.told.File
		return parent.told.Args, nil
	}
	if s.named() {
		return args, nil
	}
	if len(args) > 0 {
		switch took, err := s.take(args[0]); {
		case took:
			return args[1:], err
		case err != nil, strings.ContainsAny(args[0], ".@:"), s.definesConnections():
			return args, err
		}
		return nil, s.unknown(args[0], ", or a gateway as in alice@vpn.example.com, or a file by -c FILE")
	}
	if s.definesConnections() {
		return args, nil
	}
	profiles, err := openStore(s.profiles)
	if err != nil {
		return args, nil //nolint:nilerr // as in takeAlways
	}
	names, err := profiles.Names()
	switch {
	case err != nil:
		return args, err
	case len(names) > 1:
		return args, usage(cmd, errors.New("none of the profiles is named: "+strings.Join(names, ", ")))
	case len(names) == 1:
		_, err = s.take(names[0])
	}
	return args, err
}

// definesConnections tells whether variables or --set do so without a file.
func (s *source) definesConnections() bool {
	return slices.ContainsFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, "MARTLET_CONNECTION_") }) ||
		slices.ContainsFunc(s.set, func(set string) bool { return strings.HasPrefix(set, "connection.") })
}

// unknown is the error for a word that is no profile; the hint ends with what else it could be.
func (s *source) unknown(word, otherwise string) error {
	profiles, err := openStore(s.profiles)
	if err != nil {
		return err
	}
	names, err := profiles.Names()
	if err != nil {
		return err
	}
	e := &store.Error{
		What: fmt.Sprintf("no profile is called %q", word),
		Why:  profiles.Folder + " has: " + strings.Join(names, ", "),
		Hint: "name one of these" + otherwise,
	}
	if len(names) == 0 {
		e.Why, e.Hint = "there are none in "+profiles.Folder, "martlet import FILE makes one of what you have from another program"
	}
	if path := ofInvoker(word); path != "" {
		e.Why = fmt.Sprintf("%s has one of their own, and root does not take what a user may change", os.Getenv("SUDO_USER"))
		e.Hint = fmt.Sprintf("for the whole system: sudo martlet import %s --name %s", path, word)
	}
	return e
}

// ofInvoker is the configuration of a profile that root does not have, and the user has who became
// root by sudo; only whether it is there is looked at.
func ofInvoker(name string) string {
	invoker := os.Getenv("SUDO_USER")
	if os.Geteuid() != 0 || invoker == "" || store.CheckName(name) != nil {
		return ""
	}
	u, err := user.Lookup(invoker)
	if err != nil || u.HomeDir == "" {
		return ""
	}
	p := store.Profile{Folder: filepath.Join(store.Of(u.HomeDir), name)}
	if _, err := os.Lstat(p.Path()); err != nil {
		return ""
	}
	return p.Path()
}

// complete are the words that may follow args: profiles, connections of the one that is named or of
// the file, and their children.
func (s *source) complete(args []string) []string {
	if s.named() {
		return completeNames(s.file, args)
	}
	if len(args) == 0 {
		return profileNames(s.profiles)
	}
	if took, err := s.take(args[0]); err != nil || !took {
		return nil
	}
	return completeNames(s.file, args[1:])
}

// profileNames are the names of all profiles, for completion.
func profileNames(folder string) []string {
	profiles, err := openStore(folder)
	if err != nil {
		return nil
	}
	names, err := profiles.Names()
	if err != nil {
		return nil
	}
	return names
}

// completeProfile completes one profile's name.
func completeProfile(folder *string) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return profileNames(*folder), cobra.ShellCompDirectiveNoFileComp
	}
}

// findProfile finds the profile that a command is about.
func findProfile(folder, name string) (*store.Store, *store.Profile, error) {
	profiles, err := openStore(folder)
	if err != nil {
		return nil, nil, err
	}
	if err := store.CheckName(name); err != nil {
		return nil, nil, err
	}
	p, err := profiles.Find(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = (&source{profiles: folder}).unknown(name, "")
	}
	return profiles, p, err
}

// loadProfile reads a profile as a command finds it that is given nothing else. Of the environment
// only the control socket counts, on which a martlet is asked what is up: other variables are for the
// one profile that a command names.
func loadProfile(ctx context.Context, p *store.Profile) (*config.Config, error) {
	from := &config.Source{File: p.Path()}
	if socket := os.Getenv("MARTLET_NODE_CONTROL"); socket != "" {
		from.Set = []string{"node.control=" + socket}
	}
	s := &source{from: from, profile: p.Name}
	c, err := s.again()
	if err == nil {
		s.settle(ctx, c)
	}
	return c, err
}

// upNow are those connections of c that a martlet on its control socket has up, in order.
func upNow(ctx context.Context, c *config.Config) []string {
	status := answering(ctx, c.Node.Control)
	if status == nil {
		return nil
	}
	var up []string
	for _, sa := range status.SAs {
		if c.Connections[sa.Connection] != nil && !sa.Since.IsZero() && !slices.Contains(up, sa.Connection) {
			up = append(up, sa.Connection)
		}
	}
	slices.Sort(up)
	return up
}
