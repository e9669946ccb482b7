package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"martlet"
)

// codeUnhealthy is of a probe that was answered with no, or not at all. It has no class, so that the
// exit status is 1: what containers take for "not healthy".
const codeUnhealthy = "unhealthy"

// Bounds of the answer to a probe.
const (
	probeWithin = 2 * time.Second
	probeAnswer = 64 << 10
)

func newHealthcheck() *cobra.Command {
	var from source
	var monitor string
	cmd := &cobra.Command{
		Use:   "healthcheck [startup|live|ready]",
		Short: "Ask the running martlet whether it is well",
		Long: `Healthcheck asks the monitor of the running martlet, and exits with 0 if the answer is yes. If it
is no, or there is none within two seconds, it prints what is missing and exits with 1.

  startup  the first child SA was up; of one that only serves: it listens
  live     the event loops answer
  ready    every connection that is to be up is up, and its peer was heard lately

Left out, it is ready. The address is that of --monitor, of MARTLET_NODE_MONITOR in the
environment, or node.monitor of the configuration; 127.0.0.1 stands for all addresses.`,
		Example:   "  martlet healthcheck --monitor :9586\n  martlet healthcheck -c office.toml startup",
		ValidArgs: []string{"startup", "live", "ready"},
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			probe := "ready"
			if len(args) > 0 {
				probe = args[0]
			}
			listen, err := monitorOf(cmd, &from, monitor)
			if err != nil {
				return err
			}
			at, err := askedAt(listen)
			if err != nil {
				return usage(cmd, err)
			}
			return askProbe(cmd.Context(), at, probe)
		},
	}
	configFlag(cmd, &from.file)
	cmd.Flags().StringVar(&monitor, "monitor", "", "`ADDRESS` and port of the monitor")
	return cmd
}

// monitorOf is the address that the monitor listens on: by the flag, else by the environment, else
// by the file, which nobody has to read otherwise.
func monitorOf(cmd *cobra.Command, from *source, flag string) (string, error) {
	listen := cmp.Or(flag, os.Getenv("MARTLET_NODE_MONITOR"))
	if listen == "" && (from.file != "" || os.Getenv("MARTLET_CONFIG") != "") {
		c, err := from.load(cmd)
		if err != nil {
			return "", err
		}
		listen = c.Node.Monitor
	}
	if listen != "" {
		return listen, nil
	}
	return "", &martlet.Error{
		Code: "host",
		What: "there is no monitor to ask",
		Why:  "neither --monitor, nor MARTLET_NODE_MONITOR, nor node.monitor of a configuration names one",
		Hint: `set node.monitor = "127.0.0.1:9586" for the martlet that runs, and give this command the same configuration`,
	}
}

// askedAt is where a client on this host reaches who listens on an address.
func askedAt(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "" {
		return "", fmt.Errorf("%q is not an address and a port such as 127.0.0.1:9586", listen)
	}
	addr, err := netip.ParseAddr(host)
	switch {
	case host == "" || host == "*" || host == "localhost" || err == nil && addr.Unmap() == netip.IPv4Unspecified():
		host = "127.0.0.1"
	case err == nil && addr.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port), nil
}

// askProbe is an error unless the monitor at an address says yes.
func askProbe(ctx context.Context, at, probe string) error {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+"/"+probe+"z", nil)
	if err != nil {
		return &usageError{err: err, command: "martlet healthcheck"}
	}
	client := &http.Client{
		Transport:     &http.Transport{Proxy: nil, DisableKeepAlives: true}, // never the proxy of the environment: it may be martlet's
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		e := &martlet.Error{
			Code: codeUnhealthy,
			What: "no martlet answers on http://" + at,
			Why:  err.Error(),
			Hint: "is it running, with node.monitor set to this address?",
		}
		if errors.Is(err, context.DeadlineExceeded) {
			e.Why = fmt.Sprintf("nothing was said for %v", probeWithin)
		} else if op, ok := errors.AsType[*net.OpError](err); ok {
			e.Why = op.Err.Error() // what is around it is HTTP's
		}
		return e
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, probeAnswer))
	if err != nil {
		body = []byte(err.Error())
	}
	what := map[string]string{"startup": "martlet has not started up", "live": "martlet is not alive", "ready": "martlet is not ready"}[probe]
	if response.StatusCode != http.StatusServiceUnavailable {
		what = fmt.Sprintf("what answers on http://%s is no monitor of martlet: %s", at, response.Status)
	}
	return &martlet.Error{Code: codeUnhealthy, What: what, Detail: printable(string(body))}
}

// printable keeps what another program or a peer said from writing to the terminal anything but lines,
// and from changing the order in which a person reads them.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) && r != '\n' {
			return -1
		}
		return r
	}, text)
}
