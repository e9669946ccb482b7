package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"martlet"
	"martlet/config"
)

func newService() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "service",
		Short: "Have the system start martlet, and keep it running",
		Long: `Service makes martlet up or martlet serve a service of the system: of systemd, launchd, the service
control manager of Windows, or rc.d of FreeBSD and OpenBSD.`,
		Example: "  sudo martlet service install -c /etc/martlet/office.toml office",
		Args:    cobra.NoArgs,
		RunE:    help,
	}
	cmd.AddCommand(newServiceInstall(), newServiceRemove(), newServiceStatus())
	if run := newServiceRun(); run != nil {
		cmd.AddCommand(run)
	}
	return cmd
}

func newServiceInstall() *cobra.Command {
	var from source
	var serve, dry bool
	cmd := &cobra.Command{
		Use:   "install PROFILE [NAME] | install -c FILE [NAME] | install --serve -c FILE",
		Short: "Install, enable and start a service",
		Long: `Install makes a service that keeps the connection NAME of PROFILE or FILE up, or, with --serve, one
that waits for peers; it is started now and whenever the system starts. The configuration is checked first, as
the service will find it: without this command's environment, and with nobody to type a password.
FILE, and this program, are named by their absolute paths, and must be where only root can write.

What is done is printed. To install again what stands already changes nothing; what has changed is
put in force, and the service started again. A file of the same name that this command did not write
is not touched.`,
		Example: `  sudo martlet service install office
  sudo martlet service install -c /etc/martlet/office.toml office
  sudo martlet service install --serve -c /etc/martlet/gateway.toml
  martlet service install -c /etc/martlet/office.toml --dry-run`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			u, err := unitFor(cmd, &from, serve, args)
			if err != nil {
				return err
			}
			m, err := managerOf(runtime.GOOS)
			if err != nil {
				return err
			}
			obstacles := []error{u.fits(runtime.GOOS), mayManage(m), u.isSafe(from.file)}
			if dry {
				for _, err := range obstacles {
					if err != nil {
						fmt.Fprintln(cmd.ErrOrStderr(), "martlet: without --dry-run this is refused:")
						report(cmd.ErrOrStderr(), err)
					}
				}
				printSteps(cmd.OutOrStdout(), m.install(u, absent))
				return nil
			}
			for _, err := range obstacles {
				if err != nil {
					return err
				}
			}
			had, err := present(m, u)
			if err != nil {
				return err
			}
			return carryOut(cmd.ErrOrStderr(), m.install(u, had))
		},
	}
	configFlag(cmd, &from.file)
	profilesFlag(cmd, &from.profiles)
	cmd.Flags().BoolVar(&serve, "serve", false, "install a gateway, which waits for peers")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print what would be done, and do nothing")
	return cmd
}

// unitFor is the service that the flags of install ask for, with its configuration checked.
func unitFor(cmd *cobra.Command, from *source, serve bool, args []string) (unit, error) {
	if serve && len(args) > 0 {
		return unit{}, usage(cmd, fmt.Errorf("with --serve all connections of the file are served; %s is one too many", args[0]))
	}
	if from.file == "" && len(args) > 0 {
		took, err := from.takeAlways(args[0])
		if err == nil && !took {
			err = from.unknown(args[0], ", or a file by -c FILE")
		}
		if err != nil {
			return unit{}, err
		}
		args = args[1:]
	}
	if from.file == "" || len(args) > 1 {
		return unit{}, usage(cmd, errors.New("one configuration and one connection are named: PROFILE [NAME], or -c FILE [NAME]"))
	}
	file, err := realPath(from.file)
	if err != nil {
		return unit{}, &martlet.Error{Code: codeService, What: "the configuration cannot be found", Why: err.Error(), Hint: "name a file that exists"}
	}
	from.file = file
	c, err := asService(cmd.ErrOrStderr(), file)
	if err != nil {
		return unit{}, err
	}
	program, err := os.Executable()
	if err == nil {
		program, err = realPath(program)
	}
	if err != nil {
		return unit{}, serviceError("where this program is cannot be told", err)
	}
	u := unit{program: program, args: []string{"serve", "-c", file}, control: c.Node.Control}
	if serve {
		return u, askNobody(c, "")
	}
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	if u.name, err = connectionName(c, name); err != nil {
		return unit{}, err
	}
	u.args = []string{"up", "-c", file, u.name}
	return u, askNobody(c, u.name)
}

// realPath is absolute and has no links, so that nobody leads it elsewhere later.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// asService reads a configuration as a service does, which has none of our environment.
func asService(stderr io.Writer, file string) (*config.Config, error) {
	c, err := (&config.Source{File: file, Env: []string{}}).Load()
	if err != nil {
		return nil, err
	}
	for _, w := range c.Warnings {
		fmt.Fprintln(stderr, w)
	}
	return c, nil
}

// askNobody refuses a configuration for which a person would be asked: for the connection that a
// service keeps up, or, without a name, for those that a gateway does.
func askNobody(c *config.Config, name string) error {
	for _, conn := range c.Connections {
		if conn.Name != name && (name != "" || conn.Keep != config.KeepUp) {
			continue
		}
		for table, login := range map[string]*config.Auth{"local": &conn.Local, "local2": &conn.Local2} {
			byPassword := slices.ContainsFunc(login.Methods, func(m string) bool { return m != "tls" })
			if !byPassword || login.User != "" && len(login.Secret.Value) > 0 {
				continue
			}
			return &martlet.Error{
				Code: codeService, What: "a service cannot ask for the user name and the password of " + conn.Name,
				Why:  "there is no terminal for the ones that the configuration lacks",
				Hint: fmt.Sprintf("in [connection.%s.%s] set user, and secret = \"file:PATH\" of a file that only root can read", conn.Name, table),
			}
		}
	}
	return nil
}

// mayLeave refuses to leave a connection to the martlet that runs already where systemd watches over
// this one, which would end at once.
func mayLeave(c *config.Config) error {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil
	}
	return &martlet.Error{
		Code: codeService, What: "a martlet runs already, with " + c.Node.Control, Why: "a service keeps its connection up itself, and does not leave it to another process",
		Hint: "end that one by `martlet down`, or give this configuration its own node.control, node.state and node.device",
	}
}

// isSafe refuses a program, or a configuration, that others than root can replace, or that a service
// does not see.
func (u unit) isSafe(file string) error {
	check := map[string]string{u.program: "install martlet where programs of the system are, /usr/local/bin for example"}
	if runtime.GOOS != "windows" {
		check[file] = "move it to /etc/martlet, with the files that it names, and give both to root"
	}
	for _, path := range slices.Sorted(maps.Keys(check)) {
		why := replaceable(path)
		if why == "" && hidden(path) {
			why = "a service does not see the folders of persons, and temporary ones"
		}
		if why != "" {
			return &martlet.Error{Code: codeService, What: "no service is made of " + path, Why: why, Hint: check[path]}
		}
	}
	return nil
}

// mayManage refuses where the service manager does not run, or we may not tell it anything.
func mayManage(m manager) error {
	if sign := m.sign(); sign != "" {
		if _, err := os.Stat(sign); err != nil {
			return &martlet.Error{
				Code: codeService, What: "no service manager that martlet knows runs here", Why: err.Error(),
				Hint: "start `martlet up` or `martlet serve` as services are started here; in a container, as its program",
			}
		}
	}
	if !administers() {
		return &martlet.Error{Code: codeService, What: "services are the administrator's", Why: "this is not root", Hint: "sudo martlet service ..., or on Windows a console that runs as administrator"}
	}
	return nil
}

func newServiceRemove() *cobra.Command {
	var serve, dry bool
	cmd := &cobra.Command{
		Use:   "remove NAME | remove --serve",
		Short: "Stop a service and remove it",
		Long: `Remove stops a service that install made, and removes it. Where there is none it does nothing.
Configuration and state stay.`,
		Example: "  sudo martlet service remove office",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			u, err := namedUnit(cmd, serve, args)
			if err != nil {
				return err
			}
			m, err := managerOf(runtime.GOOS)
			if err != nil {
				return err
			}
			if dry {
				printSteps(cmd.OutOrStdout(), m.remove(u))
				return nil
			}
			if err := mayManage(m); err != nil {
				return err
			}
			switch had, err := present(m, u); {
			case err != nil:
				return err
			case had == absent:
				fmt.Fprintf(cmd.ErrOrStderr(), "martlet: there is no service for %s\n", u.arg())
				return nil
			}
			return carryOut(cmd.ErrOrStderr(), m.remove(u))
		},
	}
	cmd.Flags().BoolVar(&serve, "serve", false, "remove the gateway")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print what would be done, and do nothing")
	return cmd
}

// namedUnit is the service that is named on the command line.
func namedUnit(cmd *cobra.Command, serve bool, args []string) (unit, error) {
	if serve == (len(args) > 0) {
		return unit{}, usage(cmd, errors.New("one service is named: NAME, or --serve for the gateway"))
	}
	if serve {
		return unit{}, nil
	}
	u := unit{name: args[0]}
	if u.name == "" || strings.ContainsAny(u.name, `/\`) || u.fits(runtime.GOOS) != nil {
		return unit{}, usage(cmd, fmt.Errorf("%q is no name of a connection", u.name))
	}
	return u, nil
}

func newServiceStatus() *cobra.Command {
	var serve bool
	cmd := &cobra.Command{
		Use:   "status [NAME | --serve]",
		Short: "Show what the system says about services of martlet",
		Long: `Status prints what the service manager says about a service that install made, or about all of
them. It fails if one does not run.`,
		Example: "  martlet service status office",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := managerOf(runtime.GOOS)
			if err != nil {
				return err
			}
			var units []unit
			if serve || len(args) > 0 || m.file(unit{}) == "" {
				u, err := namedUnit(cmd, serve, args)
				if err != nil {
					return err
				}
				units = []unit{u}
			} else if units, err = installed(m); err != nil {
				return err
			}
			if len(units) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "martlet: there is no service of martlet")
			}
			return showServices(cmd, m, units)
		},
	}
	cmd.Flags().BoolVar(&serve, "serve", false, "the gateway alone")
	return cmd
}

func showServices(cmd *cobra.Command, m manager, units []unit) error {
	var down []string
	for _, u := range units {
		words := m.status(u)
		ask := exec.CommandContext(cmd.Context(), words[0], words[1:]...)
		ask.Stdout, ask.Stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
		err := ask.Run()
		if _, ran := errors.AsType[*exec.ExitError](err); err != nil && !ran {
			return &martlet.Error{Code: codeService, What: "the service manager cannot be asked", Why: err.Error(), Hint: "does it run here?"}
		}
		if err != nil {
			down = append(down, u.arg())
		}
	}
	if len(down) > 0 {
		return &martlet.Error{Code: codeUnhealthy, What: "not running: " + strings.Join(down, ", ")}
	}
	return nil
}
