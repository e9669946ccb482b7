package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"martlet"
	"martlet/config"
)

func newDoctor() *cobra.Command {
	var from source
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [HOST | PROFILE | -c FILE [NAME]]",
		Short: "Examine this host, and the way to a gateway",
		Long: `Doctor tells why a tunnel does not come up, or would not: a line for each check, with what was found
and what to do. It looks at the clock, the right to make devices, what a killed martlet left, routes,
rules of other VPNs, resolvers, the packet filter, and with -c or PROFILE at what the configuration needs and
at its certificates. It changes nothing. As root it sees more. Where no tunnel stands it asks, as
martlet portal does, whether this network wants a login at a page of its own first, unless node.no_portal_check
or a kill switch is set.

With HOST, or a connection's NAME, it examines the way to that gateway too, as martlet probe does,
and how long a packet may be to get there whole. A connection that is alone in FILE need not be named; a
PROFILE that martlet import made takes the place of FILE.

It exits with 0 if no check failed, with 6 for faults of this host, and with 3 if only the network or
the gateway is at fault.`,
		Example: "  sudo martlet doctor\n  sudo martlet doctor -c office.toml office\n  martlet doctor vpn.example.com --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := newExamination(cmd, &from, append(args, "")[0])
			if err != nil {
				return err
			}
			found, err := d.Examine(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return errors.Join(martlet.Verdict(found), printJSON(cmd.OutOrStdout(), found))
			}
			printFindings(cmd.OutOrStdout(), found)
			return martlet.Verdict(found)
		},
	}
	from.add(cmd)
	profilesFlag(cmd, &from.profiles)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// newExamination tells what is to be examined; name is that of a connection or, without a
// configuration, of a profile or a host.
func newExamination(cmd *cobra.Command, from *source, name string) (*martlet.Doctor, error) {
	d := &martlet.Doctor{Control: cmp.Or(os.Getenv("MARTLET_NODE_CONTROL"), defaultSocket())}
	profile, err := from.take(name)
	if err != nil {
		return nil, err
	}
	if profile {
		name = ""
	}
	if !from.named() && len(from.set) == 0 {
		t, ok := parseTarget(name, "")
		if d.Host = t.host; !ok || t.user != "" {
			if name != "" {
				return nil, usage(cmd, fmt.Errorf("%q is neither a profile nor a host; a connection takes -c FILE", name))
			}
			d.Host = ""
		}
		none, err := config.Parse("", nil, "", nil)
		if err != nil {
			return nil, err
		}
		d.State = none.Node.State
		return d, nil
	}
	c, err := from.load(cmd)
	if err != nil {
		return nil, err
	}
	d.Config, d.Control, d.State, d.Connection = c, c.Node.Control, c.Node.State, name
	if name == "" && len(c.Connections) == 1 {
		for only, conn := range c.Connections {
			if len(conn.Remote) > 0 {
				d.Connection = only
			}
		}
	}
	return d, nil
}

func printFindings(w io.Writer, found []martlet.Finding) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range found {
		fmt.Fprintf(table, "%s\t%s\t%s\n", f.Result, f.Check, printable(f.Text))
		if f.Hint != "" && f.Result != martlet.ResultOK {
			fmt.Fprintf(table, "\t\thint: %s\n", printable(f.Hint))
		}
	}
	table.Flush()
}
