package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"martlet"
)

func newCapture() *cobra.Command {
	var where socketFlags
	var options martlet.CaptureOptions
	var to pcapFile
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "capture -o FILE [NAME]",
		Short: "Write packets of the running martlet for Wireshark",
		Long: `Capture writes the packets of IKE and ESP that the running martlet sends and takes as a pcap
file, until a signal, for the time of --for, or until that martlet ends. With NAME it leaves out
what is known to be of other connections. What a reader is too slow for is left out and counted;
the tunnels do not wait.

With --keys the keys of the SAs that stand and of those that come meanwhile are added to
Wireshark's tables in DIR, which so is one of its profiles:

  WIRESHARK_CONFIG_DIR=DIR wireshark -o esp.enable_encryption_decode:TRUE FILE

Whoever has them can read that traffic. Without it no key leaves the running martlet, whose log
tells of a capture with keys and who made it. Wireshark knows IKE and ESP by the ports 500 and
4500; others it is told as in -d udp.port==5500,udpencap.

With --inner it is the packets inside the tunnel in place of those, as the device has them: what
nobody has cut apart yet is one long packet, and checksums may be missing.`,
		Example: `  sudo martlet capture -o tunnel.pcap --keys profile --for 60s office
  sudo martlet capture -o - --inner | wireshark -k -i -`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to.name == "" {
				return usage(cmd, errors.New("the capture is not named: -o FILE"))
			}
			socket, err := where.path(cmd)
			if err != nil {
				return err
			}
			options.Connection = append(args, "")[0]
			ctx := cmd.Context()
			if lasts > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, lasts)
				defer cancel()
			}
			return capture(ctx, cmd, martlet.NewControl(socket), options, &to)
		},
	}
	where.add(cmd)
	f := cmd.Flags()
	f.StringVarP(&to.name, "output", "o", "", "write to `FILE`, which is for its owner only; - is the standard output")
	f.BoolVar(&to.force, "force", false, "replace a file that is there")
	f.StringVar(&options.Keys, "keys", "", "add the keys that open the packets to Wireshark's tables in `DIR`")
	f.BoolVar(&options.Inner, "inner", false, "write the packets inside the tunnel")
	f.DurationVar(&lasts, "for", 0, "end after `DURATION`, such as 60s")
	return cmd
}

// capture runs until ctx or the running martlet ends, and tells what came of it.
func capture(ctx context.Context, cmd *cobra.Command, control *martlet.Control, options martlet.CaptureOptions, to *pcapFile) error {
	to.stdout = cmd.OutOrStdout()
	captured, err := control.Capture(ctx, options, to)
	if closed := to.close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	stderr := cmd.ErrOrStderr()
	if ctx.Err() == nil {
		fmt.Fprintln(stderr, "martlet: the running martlet has ended")
	}
	fmt.Fprintf(stderr, "martlet: %s", count(int(captured.Packets), "packet"))
	if captured.Lost > 0 {
		fmt.Fprintf(stderr, ", %d more are lost, since they were written too slowly", captured.Lost)
	}
	if captured.LostKeys > 0 {
		fmt.Fprintf(stderr, ", and the keys of %s", count(int(captured.LostKeys), "SA"))
	}
	fmt.Fprintln(stderr)
	return nil
}

// pcapFile is what a capture is written to. It is made by the first Write, so that a capture that
// cannot begin leaves nothing.
type pcapFile struct {
	name   string // - is stdout
	force  bool
	stdout io.Writer
	file   *os.File
}

func (p *pcapFile) Write(b []byte) (int, error) {
	if p.name == "-" {
		return p.stdout.Write(b)
	}
	if p.file == nil {
		var err error
		if p.file, err = createOwn(p.name, p.force); err != nil {
			return 0, err
		}
		fmt.Fprintf(os.Stderr, "martlet: writing %s\n", p.name)
	}
	return p.file.Write(b)
}

func (p *pcapFile) close() error {
	if p.file == nil {
		return nil
	}
	return p.file.Close()
}

// createOwn makes a file that only its owner may read. With force it takes the place of one that is
// there, whoever may read or have open that one.
func createOwn(name string, force bool) (*os.File, error) {
	if info, err := os.Lstat(name); err == nil && force && (info.Mode().IsRegular() || info.Mode()&fs.ModeSymlink != 0) {
		if err := os.Remove(name); err != nil {
			return nil, cannotWrite(err, "may the file be replaced?")
		}
	} else if err == nil && force {
		file, err := os.OpenFile(name, os.O_WRONLY, 0) // a pipe, perhaps
		return file, cannotWrite(err, "")
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	switch {
	case os.IsExist(err):
		return nil, cannotWrite(err, "name another file, or replace it with --force")
	case err != nil:
		return nil, cannotWrite(err, "name a file in a folder that exists and that you may write")
	}
	return file, nil
}

func cannotWrite(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &martlet.Error{Code: "host", What: "the file cannot be written", Why: err.Error(), Hint: hint}
}
