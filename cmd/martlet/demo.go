package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"martlet"
)

func newDemo() *cobra.Command {
	amount := octets(1 << 30)
	var asJSON, verbose bool
	var pcap string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a gateway and a client in this process and move data between them",
		Long: `Demo makes certificates in memory, starts a gateway and a client in this process with real
UDP sockets on loopback, negotiates IKEv2 between them, fetches a page through the tunnel from
a server behind the gateway, and moves data through ESP. It needs no privilege and no
configuration. It fails unless all octets arrived.`,
		Example: "  martlet demo\n  martlet demo --size 64MiB --pcap /tmp/demo.pcap --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := martlet.DemoOptions{Size: int64(amount), Pcap: pcap}
			level := zapcore.WarnLevel
			if verbose {
				level = zapcore.DebugLevel
			}
			o.Logger = newLogger(cmd.ErrOrStderr(), level)
			end := func() {}
			if !asJSON && !verbose && term.IsTerminal(int(os.Stderr.Fd())) {
				columns, _, err := term.GetSize(int(os.Stderr.Fd()))
				if err != nil {
					columns = 80
				}
				o.Progress, end = progress(cmd.ErrOrStderr(), columns)
			}
			report, err := martlet.Demo(cmd.Context(), o)
			end()
			if asJSON {
				if jsonErr := printJSON(cmd.OutOrStdout(), report); err == nil {
					err = jsonErr
				}
			} else {
				printDemo(cmd.OutOrStdout(), report)
			}
			return err
		},
	}
	cmd.Flags().Var(&amount, "size", "`octets` to move through the tunnel")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log every message")
	cmd.Flags().StringVar(&pcap, "pcap", "", "write the outer packets to `FILE`, and Wireshark's key tables beside it")
	return cmd
}

// progress draws a bar on a terminal of so many columns, ten times a second at most; end
// wipes it away.
func progress(w io.Writer, columns int) (draw func(done, total int64), end func()) {
	const figures = len("[] 100 % 1023.9 MiB 1023.9 Mbit/s") + 1 // the last column would wrap
	width := max(min(40, columns-figures), 0)
	start := time.Now()
	var last time.Time
	draw = func(done, total int64) {
		now := time.Now()
		if total <= 0 || now.Sub(last) < 100*time.Millisecond {
			return
		}
		last = now
		filled := int(done * int64(width) / total)
		rate := float64(done) * 8 / max(now.Sub(start).Seconds(), 1e-3)
		fmt.Fprintf(w, "\r[%s%s] %3d %% %s %s\x1b[K", strings.Repeat("#", filled), strings.Repeat(".", width-filled),
			done*100/total, size(uint64(done)), bitRate(rate))
	}
	return draw, func() { fmt.Fprint(w, "\r\x1b[K") }
}

func bitRate(bitsPerSecond float64) string {
	if bitsPerSecond >= 1e9 {
		return fmt.Sprintf("%.2f Gbit/s", bitsPerSecond/1e9)
	}
	return fmt.Sprintf("%.1f Mbit/s", bitsPerSecond/1e6)
}

// printDemo prints as much as the demo found.
func printDemo(w io.Writer, r *martlet.DemoReport) {
	if len(r.Stages) > 0 {
		fmt.Fprintln(w, "stages")
	}
	for _, s := range r.Stages {
		fmt.Fprintf(w, "  %-16s %s\n", s.Stage, took(s.Took))
	}
	if r.Client.Suite != "" {
		printTunnel(w, r)
	}
	if r.Page != "" {
		fmt.Fprintf(w, "page\n  %s\n", strings.ReplaceAll(strings.TrimSpace(r.Page), "\n", "\n  "))
	}
	if r.Took > 0 {
		fmt.Fprintf(w, "data\n  %s of %s in %s, %s\n", size(uint64(r.Bytes)), size(uint64(r.Expected)), took(r.Took), bitRate(r.BitsPerSec))
	}
	if r.Pcap != "" {
		fmt.Fprintf(w, "capture\n  %s; keys for Wireshark in %s\n", r.Pcap, r.KeyLog)
	}
	if r.OK {
		fmt.Fprintln(w, "all octets arrived")
	}
}

// printTunnel prints what was negotiated, and what each side counted.
func printTunnel(w io.Writer, r *martlet.DemoReport) {
	fmt.Fprintf(w, "IKE SA\n  %s\n  SPIs %s %s\n", r.Client.Suite, r.Client.SPIi, r.Client.SPIr)
	for _, side := range []struct {
		name string
		sa   martlet.SAStatus
	}{{"client", r.Client}, {"gateway", r.Gateway}} {
		fmt.Fprintf(w, "%s\n  %s at %v\n", side.name, side.sa.LocalID, side.sa.LocalAddr)
		if len(side.sa.Addresses) > 0 {
			fmt.Fprintf(w, "  virtual addresses %s\n", list(side.sa.Addresses))
		}
		for _, c := range side.sa.Children {
			fmt.Fprintf(w, "  child %s: %s === %s, %s\n", c.Name, strings.Join(c.Local, " "), strings.Join(c.Remote, " "), c.Suite)
			fmt.Fprintf(w, "    SPI in %s: %s, %s\n", c.SPIIn, count(int(c.PacketsIn), "packet"), size(c.BytesIn))
			fmt.Fprintf(w, "    SPI out %s: %s, %s\n", c.SPIOut, count(int(c.PacketsOut), "packet"), size(c.BytesOut))
		}
	}
}
