package martlet

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"martlet/config"
	"martlet/tun"
	"martlet/tun/dns"
	"martlet/tun/netmon/portal"
)

// hostFacts is what is seen of a host. Checks are functions of it, so that tests can make hosts up.
type hostFacts struct {
	asks
	system string // GOOS
	now    time.Time
	built  time.Time // this program; zero: not known

	may       bool  // this process may set up the host
	driver    error // of TUN; nil: it is there
	running   *Status
	notAsked  error // why a running martlet could not be asked
	notes     []string
	container string // by what we know that this is one

	login        *portal.Result // whether the network wants one; nil: nobody was asked
	loginUnasked string         // why not

	resolvers dnsFacts
	kernel    *kernelFacts // nil but on Linux
}

// dnsFacts is how resolvers would be set.
type dnsFacts struct {
	manner  string
	splits  bool
	because []string
	err     error
}

// kernelFacts is what is seen of Linux's network.
type kernelFacts struct {
	sysctl   map[string]string // by path below /proc/sys; those that are not there are missing
	writable bool              // /proc/sys
	defaults map[bool]string   // the interface of the default route, by whether it is of IPv4
	rules    []ruleFact
	rulesErr error
	tables   []string // of nftables that are ours, with their family
	drops    []string // chains of others that drop by default what this host sends, or gets
	tableErr error
	links    []string // interfaces that exist
}

// ruleFact is a rule by which routes are looked up.
type ruleFact struct {
	v4       bool
	priority int
	mark     uint32
	mask     uint32 // all bits where the rule has none
	invert   bool
	table    int
	ours     bool
	any      bool // it is not of some sources, destinations or interfaces only
	all      bool // its table has a default route
}

// gather looks at this host.
func gather(ctx context.Context, d *Doctor) *hostFacts {
	f := &hostFacts{
		asks: wants(d.Config), system: runtime.GOOS, now: time.Now(), built: buildTime(),
		may: mayConfigureHost(), driver: tun.Driver(), container: containerSign(),
	}
	if d.Control != "" {
		if f.running, f.notAsked = NewControl(d.Control).Status(ctx); f.notAsked != nil {
			f.running = nil
		}
		if _, err := os.Lstat(d.Control); errors.Is(err, os.ErrNotExist) {
			f.notAsked = nil // none runs
		}
	}
	entries, _ := os.ReadDir(d.State) // there is none where nothing ever ran
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".route.json") || strings.HasSuffix(e.Name(), ".dns.json") {
			f.notes = append(f.notes, filepath.Join(d.State, e.Name()))
		}
	}
	f.resolvers.manner, f.resolvers.splits, f.resolvers.because, f.resolvers.err = dns.Manner()
	f.kernel = gatherKernel()
	f.askLogin(ctx, d)
	return f
}

// askLogin asks whether the network wants a login, if nothing is against it.
func (f *hostFacts) askLogin(ctx context.Context, d *Doctor) {
	if f.loginUnasked = f.whyNotAsk(d.Config); f.loginUnasked == "" {
		r := portal.Check(ctx, (&Node{}).outsideDialer(), d.probes...)
		f.login = &r
	}
}

// whyNotAsk says why nobody is to be asked whether the network wants a login; empty: there is no reason.
func (f *hostFacts) whyNotAsk(c *config.Config) string {
	switch {
	case f.running != nil && slices.ContainsFunc(f.running.SAs, func(sa SAStatus) bool { return !sa.Since.IsZero() }):
		return "a tunnel stands, so the network wants none"
	case c != nil && c.Node.NoPortalCheck:
		return "nobody is asked, since node.no_portal_check is set"
	case c != nil && c.Node.KillSwitch:
		return "behind a kill switch nobody is asked about it; martlet portal does that"
	}
	return ""
}

// buildTime is that of the commit from which the program was built.
func buildTime() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			at, err := time.Parse(time.RFC3339, s.Value)
			if err == nil {
				return at
			}
		}
	}
	return time.Time{}
}

// killed tells whether the martlet of the control socket was killed.
func (f *hostFacts) killed() bool { return errors.Is(f.notAsked, syscall.ECONNREFUSED) }
