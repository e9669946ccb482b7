package dns

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// resolved is the manner of systemd-resolved: servers and domains belong to a link, and are
// forgotten with it.
type resolved struct {
	device  string
	connect func() (*dbus.Conn, error)
	log     *zap.Logger

	mu     sync.Mutex
	conn   *dbus.Conn // nil until set
	config Config
	index  int32 // of the link
	task   sync.WaitGroup
}

// linkDNS and linkDomain are parts of the arguments of SetLinkDNS and SetLinkDomains.
type linkDNS struct {
	Family  int32
	Address []byte
}

type linkDomain struct {
	Name string
	// RouteOnly domains choose the link, and do not complete short names.
	RouteOnly bool
}

func linkServers(c Config) []linkDNS {
	var out []linkDNS
	for _, a := range c.Servers {
		family := int32(unix.AF_INET6)
		if a.Is4() {
			family = unix.AF_INET
		}
		out = append(out, linkDNS{family, a.AsSlice()})
	}
	return out
}

// linkDomains has "." for all names, which stands before the servers of all other links.
func linkDomains(c Config) []linkDomain {
	out := []linkDomain{}
	for _, n := range c.Search {
		out = append(out, linkDomain{n, false})
	}
	for _, n := range c.Domains {
		// One that is both is sent once, as the one to search, which chooses the link as well.
		if !slices.Contains(c.Search, n) {
			out = append(out, linkDomain{n, true})
		}
	}
	if c.all() {
		out = append(out, linkDomain{".", true})
	}
	return out
}

func (r *resolved) set(c Config) error {
	link, err := net.InterfaceByName(c.Device)
	if err != nil {
		return &Error{"set the resolvers of " + c.Device, err, "the device must be there before them"}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == nil || !r.conn.Connected() {
		if err := r.open(); err != nil {
			return err
		}
	}
	r.config, r.index = c, int32(link.Index)
	if err := r.apply(); err != nil {
		return err
	}
	r.warnOfOthers()
	return nil
}

// open connects to the bus and has it tell when systemd-resolved comes back. r.mu is held.
func (r *resolved) open() error {
	conn, err := r.connect()
	if err != nil {
		return &Error{"connect to the D-Bus", err, "see that the system's bus runs"}
	}
	match := []dbus.MatchOption{
		dbus.WithMatchSender("org.freedesktop.DBus"),
		dbus.WithMatchInterface("org.freedesktop.DBus"),
		dbus.WithMatchMember("NameOwnerChanged"),
		dbus.WithMatchArg(0, resolvedName),
	}
	signals := make(chan *dbus.Signal, 16)
	conn.Signal(signals)
	if err := conn.AddMatchSignal(match...); err != nil {
		return errors.Join(&Error{What: "listen to the D-Bus", Err: err}, conn.Close())
	}
	r.conn = conn
	r.task.Go(func() {
		for s := range signals { // which ends with the connection
			if len(s.Body) == 3 && s.Body[0] == resolvedName && s.Body[2] != "" {
				r.again()
			}
		}
	})
	return nil
}

// again tells a systemd-resolved that was started anew what the one before knew.
func (r *resolved) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == nil {
		return
	}
	r.log.Info("systemd-resolved was started again, and is told our resolvers", zap.String("device", r.device))
	if err := r.apply(); err != nil {
		r.log.Error("names may leave the tunnel: systemd-resolved was started again and does not take its resolvers", zap.String("device", r.device), zap.Error(err))
	}
}

// apply tells everything. r.mu is held.
func (r *resolved) apply() error {
	c := r.config
	o := r.conn.Object(resolvedName, resolvedPath)
	for _, step := range []struct {
		method   string
		optional bool // unknown to old versions
		args     []any
	}{
		{"SetLinkDNS", false, []any{linkServers(c)}},
		{"SetLinkDomains", false, []any{linkDomains(c)}},
		{"SetLinkDefaultRoute", true, []any{c.all()}},
		// Names of the tunnel are asked of its servers and of nobody beside them; and these are
		// reached through ESP, whether or not they know TLS.
		{"SetLinkLLMNR", true, []any{"no"}},
		{"SetLinkMulticastDNS", true, []any{"no"}},
		{"SetLinkDNSOverTLS", true, []any{"no"}},
	} {
		err := call(o, resolvedName+".Manager."+step.method, nil, append([]any{r.index}, step.args...)...)
		if err != nil && !(step.optional && isBusError(err, errUnknownMethod)) {
			return resolvedFailed(step.method, r.device, err)
		}
	}
	if err := call(o, resolvedName+".Manager.FlushCaches", nil); err != nil {
		r.log.Debug("old answers are kept", zap.Error(err))
	}
	return nil
}

// warnOfOthers tells of other links that get names although all should go into the tunnel: a domain
// of theirs is more than "all names". DHCP can bring such a domain. r.mu is held.
func (r *resolved) warnOfOthers() {
	if !r.config.all() {
		return
	}
	var domains []struct {
		Index     int32
		Name      string
		RouteOnly bool
	}
	o := r.conn.Object(resolvedName, resolvedPath)
	if err := property(o, resolvedName+".Manager", "Domains", &domains); err != nil {
		r.log.Debug("domains of other links are not known", zap.Error(err))
		return
	}
	var others []string
	for _, d := range domains {
		if d.Index != r.index {
			others = append(others, d.Name)
		}
	}
	if len(others) > 0 {
		r.log.Warn("names in some domains do not go to the resolvers of the tunnel: other links of systemd-resolved have these domains (resolvectl domain)",
			zap.String("domains", strings.Join(others, " ")))
	}
}

func (r *resolved) undo() error {
	r.mu.Lock()
	conn := r.conn
	r.conn = nil
	r.mu.Unlock()
	if conn == nil {
		var err error
		if conn, err = r.connect(); err != nil {
			return nil //nolint:nilerr // without a bus there is no service that knows anything
		}
	}
	var err error
	// A link that is no more has been forgotten, and so has all by a service that does not run.
	if link, gone := net.InterfaceByName(r.device); gone == nil && running(conn, resolvedName) {
		err = call(conn.Object(resolvedName, resolvedPath), resolvedName+".Manager.RevertLink", nil, int32(link.Index))
		if isBusError(err, resolvedName+".NoSuchLink") {
			err = nil
		}
		if err != nil {
			err = resolvedFailed("RevertLink", r.device, err)
		}
	}
	closed := conn.Close()
	r.task.Wait()
	return errors.Join(err, closed)
}

func resolvedFailed(method, device string, err error) error {
	hint := "see resolvectl status " + device + " and the journal of systemd-resolved"
	switch {
	case isBusError(err, "org.freedesktop.DBus.Error.AccessDenied"), isBusError(err, "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"):
		hint = "run as root"
	case isBusError(err, resolvedName+".LinkBusy"):
		hint = fmt.Sprintf("systemd-networkd manages the link: add a file in /etc/systemd/network with [Match] Name=%s and [Link] Unmanaged=yes", device)
	}
	return &Error{"set the resolvers of " + device + " (" + method + " of systemd-resolved)", err, hint}
}
