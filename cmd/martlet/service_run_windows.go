package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sys/windows/svc"

	"martlet"
)

// newServiceRun makes the command by which the service control manager starts martlet.
func newServiceRun() *cobra.Command {
	return &cobra.Command{
		Use:   "run -- up|serve ARGUMENT...",
		Short: "Run as a service of Windows; install names this command",
		Long: `Run is what the service control manager of Windows starts: it runs martlet up or martlet serve, and
tells the manager how that fares. The log is in System32\LogFiles\martlet.`,
		Example: `  martlet service run -- up -c C:\ProgramData\martlet\office.toml office`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] != "up" && args[0] != "serve" {
				return errors.New("up or serve comes behind --")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if is, err := svc.IsWindowsService(); err != nil || !is {
				return usage(cmd, errors.New("this is for the service control manager alone; start martlet "+args[0]))
			}
			if err := svc.Run("", &serviceRun{args}); err != nil {
				return &martlet.Error{Code: codeService, What: "the service control manager is not reached", Why: err.Error(), Hint: "start martlet " + args[0]}
			}
			return nil
		},
	}
}

// serviceRun is a service of Windows: svc.Handler.
type serviceRun struct{ args []string }

// stopWithin is how long an end may take in milliseconds, which is more than node.drain.
const stopWithin = 60_000

// Execute runs martlet until it ends or the manager ends it. It counts as running from the start on,
// since a service that still starts cannot be stopped, and a gateway may not answer for a while.
func (s *serviceRun) Execute(args []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (specific bool, code uint32) {
	status <- svc.Status{State: svc.StartPending}
	if err := logTo(args[0]); err != nil {
		return true, exitConfiguration
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan int, 1)
	go func() { ended <- runUntil(ctx, s.args) }()
	const accepts = svc.AcceptStop | svc.AcceptShutdown
	status <- svc.Status{State: svc.Running, Accepts: accepts}
	for {
		select {
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				status <- r.CurrentStatus
			case svc.Stop, svc.Shutdown:
				status <- svc.Status{State: svc.StopPending, WaitHint: stopWithin}
				cancel()
			default: // is not accepted
			}
		case code := <-ended:
			switch {
			case code == exitDone || ctx.Err() != nil:
				return false, 0
			case slices.Contains(needPerson, code):
				return true, uint32(code)
			}
			// What ends without a word is started again by the manager.
			os.Exit(code)
		}
	}
}

// logTo has what goes to stderr, of which a service has none, stand in a file, in a folder where only
// administrators write. The file of the start before is kept.
func logTo(name string) error {
	folder := filepath.Join(os.Getenv("SystemRoot"), "System32", "LogFiles", "martlet")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	path := filepath.Join(folder, filepath.Base(name)+".log")
	if err := os.Rename(path, path+".old"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	os.Stderr = f
	return debug.SetCrashOutput(f, debug.CrashOptions{})
}
