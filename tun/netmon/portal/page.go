package portal

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// maxPage bounds the address of a page that is shown to a person, in octets.
const maxPage = 2 << 10

// clean is the address of a page, as a Location field gives it beside that of the page that was
// asked for (RFC 9110 §10.2.2), in a form that can be shown and opened. Anybody may have written
// it: there is none that a browser does not fetch, that is longer than a person's own would be, or
// on this host. What would hide where it leads goes: credentials, and letters beyond ASCII, of a
// host's name altogether.
func clean(asked, location string) (page string, ok bool) {
	if len(location) > maxPage {
		return "", false
	}
	base, err := url.Parse(asked)
	if err != nil {
		return "", false
	}
	u, err := base.Parse(location)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "" || !shows(u.Hostname()) {
		return "", false
	}
	u.User = nil
	page = escape(u.String())
	return page, len(page) <= maxPage
}

// shows tells whether a host can be shown: an address, or a name of letters, digits, hyphens, dots
// and underscores, that is not this host.
func shows(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		a = a.Unmap()
		return a.Zone() == "" && !a.IsLoopback() && !a.IsUnspecified() && !a.IsMulticast()
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	last := name[strings.LastIndexByte(name, '.')+1:]
	switch {
	case last == "", last == "localhost":
		return false
	case strings.Trim(last, "0123456789") == "", strings.HasPrefix(last, "0x"):
		return false // browsers take 127.1 and 0x7f000001 for addresses
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	})
}

// inURL are the octets, besides letters and digits, that a URL may have (RFC 3986 §2), less the
// single quote, with which one may get out of a quoted word.
const inURL = "-._~:/?#[]@!$&()*+,;=%"

// escape writes every other octet by its number.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte(inURL, c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
