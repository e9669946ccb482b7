package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"martlet"
)

func newStatus() *cobra.Command {
	var where socketFlags
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use:   "status [PROFILE]",
		Short: "Show the tunnels of the running martlet",
		Long: `Status shows each IKE SA with its child SAs. It fails where no martlet is running. With PROFILE it asks
the martlet that has this profile up.

With --watch it goes on until a signal, or until the running martlet ends: it draws the status anew
on a terminal, and writes a line for each event elsewhere; with --json that is the whole status.`,
		Example: "  sudo martlet status\n  sudo martlet status --json | jq '.ike_sas[].state'\n  sudo martlet status --watch",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := where.takeOnly(cmd, args); err != nil {
				return err
			}
			socket, err := where.path(cmd)
			if err != nil {
				return err
			}
			control := martlet.NewControl(socket)
			if watch {
				return watchStatus(cmd, control, asJSON)
			}
			s, err := control.Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), s)
			}
			printStatus(cmd.OutOrStdout(), s, time.Now())
			return nil
		},
	}
	where.add(cmd)
	profilesFlag(cmd, &where.profiles)
	cmd.ValidArgsFunction = completeProfile(&where.profiles)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing it")
	return cmd
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func printStatus(w io.Writer, s *martlet.Status, now time.Time) {
	fmt.Fprintf(w, "martlet %s, process %d, device %s, MTU %d\n", s.Version, s.PID, s.Device, s.MTU)
	if len(s.Listening) > 0 {
		fmt.Fprintf(w, "listening on %s\n", list(s.Listening))
	}
	if len(s.TCP) > 0 {
		fmt.Fprintf(w, "listening for TCP on %s\n", list(s.TCP))
	}
	printDoors(w, s.Doors)
	if s.Resolvers != nil {
		printResolvers(w, s.Resolvers)
	}
	if s.Monitor.IsValid() {
		fmt.Fprintf(w, "probes and metrics at http://%s\n", s.Monitor)
	}
	up := map[string]bool{}
	for _, sa := range s.SAs {
		up[sa.Connection] = true
		printSA(w, sa, now)
	}
	for _, c := range s.Waiting {
		if !up[c.Connection] {
			up[c.Connection] = true
			what := c.Text
			if c.Err != nil {
				what = c.Err.What
			}
			fmt.Fprintf(w, "%s: no tunnel: %s; next try in %s\n", c.Connection, what, max(0, c.Next.Sub(now)).Round(time.Second))
		}
	}
	for _, name := range s.Connections {
		if !up[name] {
			fmt.Fprintf(w, "%s: no tunnel\n", name)
		}
	}
	for _, why := range s.NotReady {
		fmt.Fprintf(w, "not ready: %s\n", why)
	}
	for _, reason := range slices.Sorted(maps.Keys(s.Drops)) {
		if n := s.Drops[reason]; n > 0 {
			fmt.Fprintf(w, "dropped %s: %d\n", reason, n)
		}
	}
	printForwarding(w, s)
}

// printForwarding prints what is open of peers whose connections the process makes in their place,
// and what it does not do for them.
func printForwarding(w io.Writer, s *martlet.Status) {
	f := s.Forwarding
	if f == nil {
		return
	}
	fmt.Fprintf(w, "forwarding for peers: %s, %s, %s open; %d in all, %s from peers, %s to them\n",
		count(f.TCP.Open, "connection"), count(f.UDP.Open, "UDP flow"), count(f.Echo.Open, "ping"),
		f.TCP.Opened+f.UDP.Opened+f.Echo.Opened,
		size(f.TCP.FromClients+f.UDP.FromClients+f.Echo.FromClients), size(f.TCP.ToClients+f.UDP.ToClients+f.Echo.ToClients))
	for _, reason := range slices.Sorted(maps.Keys(f.Refused)) {
		fmt.Fprintf(w, "  refused, %v: %d\n", reason, f.Refused[reason])
	}
	for _, family := range []struct{ name, why string }{{"IPv4", f.NoEcho4}, {"IPv6", f.NoEcho6}} {
		if family.why != "" {
			fmt.Fprintf(w, "  no ping by %s: %s\n", family.name, family.why)
		}
	}
}

func printSA(w io.Writer, sa martlet.SAStatus, now time.Time) {
	since := ""
	if !sa.Since.IsZero() {
		since = " for " + now.Sub(sa.Since).Round(time.Second).String()
	}
	if sa.Suite == "" {
		// The peer has said nothing yet, and who both are comes after that.
		fmt.Fprintf(w, "%s: %s, no answer yet from %v\n", sa.Connection, sa.State, sa.RemoteAddr)
		return
	}
	fmt.Fprintf(w, "%s: %s%s, %s\n", sa.Connection, sa.State, since, sa.Suite)
	fmt.Fprintf(w, "  %v %s\n  %v %s\n", sa.LocalAddr, sa.LocalID, sa.RemoteAddr, sa.RemoteID)
	if sa.Transport == "tcp" {
		fmt.Fprintln(w, "  over TCP")
	}
	fmt.Fprintf(w, "  %s\n", reach(sa))
	if !sa.Heard.IsZero() {
		fmt.Fprintf(w, "  the peer was heard %s ago\n", now.Sub(sa.Heard).Round(time.Second))
	}
	fmt.Fprintf(w, "  SPIs %s %s\n", sa.SPIi, sa.SPIr)
	if len(sa.Addresses) > 0 {
		fmt.Fprintf(w, "  virtual addresses %s\n", list(sa.Addresses))
	}
	if len(sa.DNS) > 0 {
		fmt.Fprintf(w, "  resolvers %s%s\n", list(sa.DNS), domains(sa))
	}
	for _, c := range sa.Children {
		fmt.Fprintf(w, "  child %s: %s === %s, %s\n", c.Name, strings.Join(c.Local, " "), strings.Join(c.Remote, " "), c.Suite)
		fmt.Fprintf(w, "    in  %s %s, %s\n", c.SPIIn, size(c.BytesIn), count(int(c.PacketsIn), "packet"))
		fmt.Fprintf(w, "    out %s %s, %s\n", c.SPIOut, size(c.BytesOut), count(int(c.PacketsOut), "packet"))
	}
}

// reach says what is between the two addresses, and whether the tunnel outlives a change of
// them.
func reach(sa martlet.SAStatus) string {
	here, there := slices.Contains(sa.Conditions, "nat-here"), slices.Contains(sa.Conditions, "nat-there")
	nat := "no NAT between them"
	switch {
	case here && there:
		nat = "both behind NAT"
	case here:
		nat = "we are behind NAT"
	case there:
		nat = "the peer is behind NAT"
	}
	if slices.Contains(sa.Extensions, "MOBIKE_SUPPORTED") {
		return nat + ", the peer has MOBIKE"
	}
	return nat + ", the peer has no MOBIKE"
}

// domains tells what the resolvers are for.
func domains(sa martlet.SAStatus) string {
	if len(sa.Domains) == 0 {
		return ""
	}
	return " for " + strings.Join(sa.Domains, " ")
}

// list writes values with spaces between.
func list[T fmt.Stringer](values []T) string {
	text := make([]string, len(values))
	for i, v := range values {
		text[i] = v.String()
	}
	return strings.Join(text, " ")
}
