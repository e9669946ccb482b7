package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"martlet"
)

func newProbe() *cobra.Command {
	var p martlet.Prober
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "probe HOST",
		Short: "Ask a gateway what it takes, without credentials",
		Long: `Probe asks a gateway by which ways it can be reached, what it takes and what it can do, by the
first message of IKEv2 alone (IKE_SA_INIT). It needs no credentials, no configuration and no root.
Nothing that it learns is authenticated: whoever is on the way can have written it.

It asks each address of HOST, four at most, on UDP 500 and 4500 and on TCP 4500 (RFC 9329), and puts
some twenty questions to the first that answers, one after the other. A gateway has room for few
SAs that somebody began and did not finish: probe leaves one there, two where the gateway takes
what nobody should, until the gateway forgets it, after half a minute as a rule. Do not run it in a
loop, and ask only gateways that are yours or that you are to use.

It exits with 3 if nothing is answered.`,
		Example: "  martlet probe vpn.example.com\n  martlet probe 192.0.2.1 --tcp-port 443 --json | jq .gateway.weak",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p.Host = strings.TrimSuffix(strings.TrimPrefix(args[0], "["), "]")
			if p.Host == "" || strings.ContainsAny(p.Host, "@/ ") {
				return usage(cmd, fmt.Errorf("%q is not a host", args[0]))
			}
			report, err := p.Probe(cmd.Context())
			if report == nil {
				return err
			}
			if asJSON {
				return errors.Join(err, printJSON(cmd.OutOrStdout(), report))
			}
			printProbe(cmd.OutOrStdout(), report)
			return err
		},
	}
	cmd.Flags().Uint16Var(&p.Port, "port", 0, "the gateway's UDP `PORT`, in place of 500 and 4500")
	cmd.Flags().Uint16Var(&p.TCPPort, "tcp-port", 0, "the gateway's TCP `PORT`, in place of 4500")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printProbe(w io.Writer, r *martlet.ProbeReport) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ADDRESS\tWAY\tANSWERS\tROUND TRIP")
	for _, way := range r.Ways {
		answers, trip := "yes", roundTrip(way.RoundTrip)
		if !way.Answered {
			answers, trip = "no", printable(way.Why)
		}
		fmt.Fprintf(table, "%v\t%v\t%s\t%s\n", way.Remote.Addr(), way, answers, trip)
	}
	table.Flush()
	for _, note := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
	if r.Gateway != nil {
		fmt.Fprintln(w)
		printGateway(w, r.Gateway)
	}
}

func roundTrip(d time.Duration) string {
	switch {
	case d == 0:
		return "not measured"
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

func printGateway(w io.Writer, g *martlet.ProbeGateway) {
	fmt.Fprintf(w, "The gateway at %v port %d by %s:\n", g.Remote.Addr(), g.Remote.Port(), strings.ToUpper(g.Transport))
	line := func(what string, is ...string) {
		fmt.Fprintf(w, "  %-16s %s\n", what, cmp.Or(strings.Join(is, " "), "none"))
	}
	if len(g.Groups) == 0 && !g.Described {
		line("takes", "nothing of what we know: it answers NO_PROPOSAL_CHOSEN, or has no connection for the address of this host")
	} else {
		line("our default", cmp.Or(g.Own, "not taken; of all that we know it chose "+cmp.Or(g.Chosen, "nothing")))
		line("groups", g.Groups...)
		line("ciphers", g.Ciphers...)
		line("hashes", g.Hashes...)
		line("post-quantum", g.Additional...)
	}
	for _, weak := range g.Weak {
		line("WEAK", weak)
	}
	if g.Cookie {
		line("cookie", "asked for")
	} else {
		line("cookie", "not asked for")
	}
	if g.Redirect != "" {
		line("redirects to", g.Redirect)
	}
	if len(g.Refusals) > 0 {
		line("also answers", g.Refusals...)
	}
	if g.Described {
		line("NAT", g.NAT.String())
		line("extensions", g.Extensions...)
		line("signatures with", g.SignatureHashes...)
		var vendors []string
		for _, v := range g.VendorIDs {
			vendors = append(vendors, v.Name)
		}
		line("vendor IDs", strings.Join(vendors, ", "))
	}
	if len(g.Open) > 0 {
		line("no answer about", strings.Join(g.Open, ", "))
	}
}
