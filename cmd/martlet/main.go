// Martlet is an IKEv2/IPsec VPN without kernel IPsec: client, gateway and site-to-site peer
// in one program. `martlet help` lists its commands; package martlet/config documents the
// configuration file.
//
// What a command was asked for goes to stdout; progress, warnings, logs and errors go to
// stderr. An error is a line of what happened, one of why we think so, one of what to
// do, and a code that stays the same across versions.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"martlet"
)

func main() {
	martlet.HelpEnclave()
	if err := join(); err != nil {
		os.Exit(report(failures(os.Stderr), err))
	}
	os.Exit(run(os.Args[1:]))
}

// run runs the command line and returns the exit status.
func run(args []string) int {
	if parent != nil {
		return runUntil(parent.end, args)
	}
	// The first signal asks for an orderly end; after it the second one kills.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return runUntil(ctx, args)
}

// runUntil is run with what asks for an orderly end.
func runUntil(ctx context.Context, args []string) int {
	root := newRoot(args)
	root.SetArgs(args)
	stdout := &faithful{w: os.Stdout}
	root.SetOut(stdout)
	began := false
	root.PersistentPreRun = func(*cobra.Command, []string) { began = true }
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !began {
		// What fails before a command begins is the command line.
		err = usage(cmd, err)
	}
	if stdout.err != nil && (err == nil || errors.Is(err, stdout.err)) {
		err = &martlet.Error{Code: "host", What: "the output could not be written", Why: stdout.err.Error(), Hint: "is the disk full, or the reader gone?"}
	}
	return report(failures(os.Stderr), err)
}

// faithful remembers the first error of a writer, which the printing commands do not look at.
type faithful struct {
	w   *os.File
	err error
}

// Fd is that of the writer, for who asks whether it is a terminal.
func (f *faithful) Fd() uintptr { return f.w.Fd() }

func (f *faithful) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	if f.err == nil {
		f.err = err
	}
	return n, err
}

// command makes a command.
type command struct {
	name string
	make func() *cobra.Command
}

func commands() []command {
	return []command{
		{"demo", newDemo},
		{"serve", newServe},
		{"up", newUp},
		{"down", newDown},
		{"rekey", newRekey},
		{"reload", newReload},
		{"redirect", newRedirect},
		{"status", newStatus},
		{"capture", newCapture},
		{"bugreport", newBugreport},
		{"exec", newExec},
		{"nc", newNC},
		{"ping", newPing},
		{"healthcheck", newHealthcheck},
		{"portal", newPortal},
		{"check", newCheck},
		{"import", newImport},
		{"export", newExport},
		{"list", newList},
		{"show", newShow},
		{"forget", newForget},
		{"service", newService},
		{"probe", newProbe},
		{"doctor", newDoctor},
		{"config", newConfig},
		{"pki", newPKI},
		{"version", newVersion},
		{"errors", newErrors},
	}
}

// newRoot makes the command line for args. If these begin with a command only that one is made,
// since to make the flags and texts of a dozen is a large part of the time until it runs.
func newRoot(args []string) *cobra.Command {
	root := &cobra.Command{
		Use:   "martlet",
		Short: "An IKEv2/IPsec VPN without kernel IPsec",
		Long: `Martlet is an IKEv2/IPsec VPN without kernel IPsec: client, gateway and
site-to-site peer in one program.

Exit status:
  0    done
  1    a fault of martlet itself
  2    the command line is wrong
  3    network: the peer cannot be reached or answers no more
  4    authentication: one side does not accept the other
  5    policy: algorithms, selectors or addresses do not meet
  6    configuration, or this host cannot be set up
  130  interrupted before it was done

Each error ends with a code; martlet help errors CODE tells what to do about it.`,
		Example:       "  martlet demo\n  martlet check office.toml && sudo martlet up -c office.toml office",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	all := commands()
	if len(args) > 0 {
		if i := slices.IndexFunc(all, func(c command) bool { return c.name == args[0] }); i >= 0 {
			root.AddCommand(all[i].make())
			root.CompletionOptions.DisableDefaultCmd = true
			return root
		}
	}
	for _, c := range all {
		root.AddCommand(c.make())
	}
	root.SetHelpCommand(newHelp())
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			// Else a shell that it does not know would be no error.
			cmd.RunE = help
			cmd.Example = "  martlet completion bash > /etc/bash_completion.d/martlet"
		}
	}
	return root
}

// help is what a command does that has commands below it.
func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }
