package dns

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// environment is what is seen of a Linux or BSD host.
type environment struct {
	Conf    conf
	Missing bool // there is no /etc/resolv.conf, or a link that leads nowhere
	// Resolved: systemd-resolved answers, having been started if need be.
	Resolved bool
	// ResolvedElsewhere: it runs in another network namespace, whose links are not ours.
	ResolvedElsewhere bool
	// NSS: programs ask systemd-resolved by the "hosts" line of /etc/nsswitch.conf.
	NSS bool
	// NM is the version of NetworkManager; "" when it does not run.
	NM string
	// NMMode is how NetworkManager sets resolvers.
	NMMode string
	// Resolvconf is whose program of that name is installed.
	Resolvconf string
	// Prefix is that of the record names which Debian's resolvconf puts first, by its configuration.
	Prefix string
	// Resolvd of OpenBSD runs.
	Resolvd bool
}

// openresolvPrefix is that of record names which openresolv puts first. Its metrics do not: records
// with one, even 0, come after those without.
const openresolvPrefix = "vpn."

// Whose resolvconf it is.
const (
	resolvconfDebian     = "debian"
	resolvconfOpenresolv = "openresolv"
	resolvconfSystemd    = "systemd"
)

const (
	mannerResolved   = "resolved"
	mannerNM         = "NetworkManager"
	mannerOpenresolv = "openresolv"
	mannerLocal      = "openresolv before a local resolver"
	mannerDebian     = "resolvconf"
	mannerFile       = "file"
	mannerResolvd    = "resolvd"
)

// decide chooses the manner for what is seen. The order is that of Tailscale, which has met the
// most hosts.
func decide(e environment) decision {
	var d decision
	because := func(format string, args ...any) {
		d.Reasons = append(d.Reasons, fmt.Sprintf(format, args...))
	}
	if e.Resolvd {
		because("resolvd writes /etc/resolv.conf, and takes proposals from route")
		d.Manner = mannerResolvd
		return d
	}
	switch {
	case e.ResolvedElsewhere:
		because("systemd-resolved answers, but runs in another network namespace")
	case e.Resolved:
		because("systemd-resolved answers")
	}
	if e.Missing {
		because("there is no /etc/resolv.conf")
		d.Manner = mannerFile
		return d
	}
	because("/etc/resolv.conf is of %s", e.Conf.Owner)
	switch e.Conf.Owner {
	case ownerResolved, ownerNM:
		if asksResolved(e, because) {
			d.Splits = true
			d.Manner = mannerResolved
			if throughNM(e, because) {
				d.Manner = mannerNM
			}
			return d
		}
	case ownerResolvconf:
		switch e.Resolvconf {
		case resolvconfDebian:
			because("resolvconf is Debian's")
			d.Manner, d.Prefix = mannerDebian, e.Prefix
			return d
		case resolvconfOpenresolv:
			d.Manner, d.Prefix = mannerOpenresolv, openresolvPrefix
			because("resolvconf is openresolv")
			if e.Conf.only(netip.Addr.IsLoopback) {
				because("programs ask a resolver on this host, which openresolv tells whom to ask for what")
				d.Manner, d.Splits = mannerLocal, true
			}
			return d
		case resolvconfSystemd:
			because("resolvconf is a name of systemd-resolved's")
			if asksResolved(e, because) {
				d.Manner, d.Splits = mannerResolved, true
				return d
			}
		default:
			because("no resolvconf is installed any more")
		}
	}
	because("nobody is there to be asked")
	d.Manner = mannerFile
	return d
}

// asksResolved tells whether it is systemd-resolved that programs ask: its name can stand in a
// file of somebody else, and its file can name the servers of the network themselves.
func asksResolved(e environment, because func(string, ...any)) bool {
	switch {
	case !e.Resolved:
		because("systemd-resolved does not answer")
		return false
	case e.ResolvedElsewhere:
		return false
	case e.NSS:
		because("programs ask it by nsswitch.conf")
		return true
	case e.Conf.only(isStub):
		because("programs ask it by its address")
		return true
	}
	because("programs ask %v, which is not systemd-resolved", e.Conf.Servers)
	return false
}

// isStub knows the addresses at which systemd-resolved listens.
func isStub(a netip.Addr) bool {
	return a == netip.AddrFrom4([4]byte{127, 0, 0, 53}) || a == netip.AddrFrom4([4]byte{127, 0, 0, 54})
}

// throughNM tells whether NetworkManager must tell systemd-resolved. In 1.26.0 to 1.26.5 its
// settings come before those of all others; later ones pass over links that they do not manage.
func throughNM(e environment, because func(string, ...any)) bool {
	switch {
	case e.NM == "":
		because("NetworkManager does not run")
		return false
	case e.NMMode != "systemd-resolved":
		because("NetworkManager %s does not set systemd-resolved", e.NM)
		return false
	case !between(e.NM, [3]int{1, 26, 0}, [3]int{1, 26, 5}):
		because("NetworkManager %s leaves our link to systemd-resolved", e.NM)
		return false
	}
	because("NetworkManager %s puts its own settings before those of others", e.NM)
	return true
}

var version = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?`) })

func between(v string, low, high [3]int) bool {
	m := version().FindStringSubmatch(v)
	if m == nil {
		return false
	}
	number := 0
	for _, s := range m[1:] {
		n, _ := strconv.Atoi(s) // 0 for one that is missing
		number = number*10000 + n
	}
	at := func(v [3]int) int { return (v[0]*10000+v[1])*10000 + v[2] }
	return at(low) <= number && number <= at(high)
}

// resolvconfFlavour tells whose resolvconf it is by what "resolvconf --version" says. Debian's
// knows no such option, and ends with 99.
func resolvconfFlavour(output string, exit int) string {
	switch {
	case exit == 99, strings.HasPrefix(output, "Debian resolvconf"):
		return resolvconfDebian
	case strings.Contains(output, "systemd"):
		return resolvconfSystemd
	}
	return resolvconfOpenresolv
}

var orderPrefix = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^([A-Za-z0-9-]+)\*$`) })

// debianPrefix finds in /etc/resolvconf/interface-order the first names that a record can have.
func debianPrefix(order string) string {
	if m := orderPrefix().FindStringSubmatch(order); m != nil {
		return m[1] + "."
	}
	return ""
}

// nssAsksResolved reads the "hosts" line of /etc/nsswitch.conf: the module comes before "dns".
func nssAsksResolved(content string) bool {
	for line := range strings.SplitSeq(content, "\n") {
		line, _, _ = strings.Cut(line, "#")
		sources, ok := strings.CutPrefix(strings.TrimSpace(line), "hosts:")
		if !ok {
			continue
		}
		for s := range strings.FieldsSeq(sources) {
			if s == "resolve" || s == "dns" {
				return s == "resolve"
			}
		}
	}
	return false
}
