package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"martlet/config"
	"martlet/config/profile"
	"martlet/config/store"
)

func newExport() *cobra.Command {
	var e exporter
	formats := profile.ExportFormats()
	cmd := &cobra.Command{
		Use:   "export NAME FORMAT",
		Short: "Write a profile for another program or device",
		Long: `Export writes a connection for a client that is not Martlet, which then takes the place of this
host: that of the profile NAME, or with -c FILE the connection NAME. What the other program
cannot be told is told here. FORMAT is one of
  ` + strings.Join(formats, ", ") + `.

One file is written to standard output; several need -o. Pre-shared keys and passwords are left
out, unless --with-secrets is given. A private key is written only where --password-file names a
password that encrypts it.`,
		Example: `  martlet export office mobileconfig -o office.mobileconfig
  martlet export office swanctl -o strongswan/ --password-file new-password
  martlet export -c office.toml office powershell --with-secrets`,
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			switch len(args) {
			case 0:
				return e.from.complete(nil), cobra.ShellCompDirectiveNoFileComp
			case 1:
				return formats, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error { return e.run(cmd, args[0], args[1]) },
	}
	e.from.add(cmd)
	profilesFlag(cmd, &e.from.profiles)
	cmd.Flags().StringVar(&e.connection, "connection", "", "of a profile that has several, export the connection `NAME`")
	cmd.Flags().StringVarP(&e.output, "output", "o", "", "write to `FILE`, what belongs to it beside it; or all into a folder, which exists or ends in /")
	cmd.Flags().BoolVar(&e.secrets, "with-secrets", false, "write pre-shared keys and passwords too")
	cmd.Flags().StringVar(&e.passwordFile, "password-file", "", "write the private key, encrypted with the password in `FILE`")
	return cmd
}

// exporter is martlet export with its flags.
type exporter struct {
	from         source
	connection   string
	output       string
	secrets      bool
	passwordFile string
}

func (e *exporter) run(cmd *cobra.Command, word, format string) error {
	if !slices.Contains(profile.ExportFormats(), format) {
		return usage(cmd, fmt.Errorf("there is no format %q; there are %s", format, strings.Join(profile.ExportFormats(), ", ")))
	}
	names, err := e.from.pick(cmd, []string{word})
	if err != nil {
		return err
	}
	if len(names) > 0 && e.connection != "" {
		return usage(cmd, errors.New("--connection is for profiles; of a file NAME is the connection"))
	}
	c, err := e.from.load(cmd)
	if err != nil {
		return err
	}
	name, err := connectionName(c, append(names, e.connection)[0])
	if err != nil {
		return err
	}
	o := profile.ExportOptions{Name: name, WithSecrets: e.secrets, ReadFile: e.readFile}
	if e.passwordFile != "" {
		password, err := config.ParseSecret("file:"+e.passwordFile, "", nil)
		if err != nil {
			return &store.Error{What: "the password of --password-file cannot be taken", Why: err.Error()}
		}
		o.Password = string(password.Value)
	}
	out, err := profile.Export(c, format, o)
	if err != nil {
		return notImported(word, err)
	}
	if err := e.write(cmd, out); err != nil {
		return err
	}
	stderr := cmd.ErrOrStderr()
	printNotes(stderr, "Not carried over, or changed:", out.Notes, false)
	printNotes(stderr, "To be done before it works:", out.Notes, true)
	return nil
}

// readFile reads a file that the configuration names.
func (e *exporter) readFile(name string) ([]byte, error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(e.from.file), name)
	}
	return readBounded(os.DirFS(filepath.Dir(name)), filepath.Base(name))
}

// write writes all files, and tells where unless it is standard output.
func (e *exporter) write(cmd *cobra.Command, out *profile.Exported) error {
	if e.output == "" && len(out.Files) == 1 {
		_, err := cmd.OutOrStdout().Write(out.Files[out.Main])
		return err
	}
	if e.output == "" {
		return usage(cmd, fmt.Errorf("there are %d files: -o FOLDER", len(out.Files)))
	}
	folder, main := filepath.Dir(e.output), filepath.Base(e.output)
	if info, err := os.Stat(e.output); err == nil && info.IsDir() || os.IsPathSeparator(e.output[len(e.output)-1]) {
		folder, main = e.output, out.Main
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return unwritable(folder, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(out.Files)) {
		path := filepath.Join(folder, name)
		if name == out.Main {
			path = filepath.Join(folder, main)
		}
		if err := replaceFile(path, out.Files[name]); err != nil {
			return unwritable(path, err)
		}
		fmt.Fprintln(cmd.OutOrStdout(), path)
	}
	return nil
}

// replaceFile writes a file that nobody else can read, whatever was there.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".martlet-") // with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func unwritable(path string, err error) error {
	return &store.Error{What: path + " cannot be written", Why: err.Error(), Hint: "name a file or folder of your own by -o"}
}
