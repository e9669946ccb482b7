package profile

import (
	"net/netip"
	"strings"
)

// hosts carries the name or the address of a gateway over; nothing if it is none.
func (d *draft) hosts(place, text string) []string {
	text = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(text), "["), "]")
	if text == "" {
		return nil
	}
	if a, err := netip.ParseAddr(text); err == nil {
		if a.IsUnspecified() {
			return nil
		}
		return []string{a.Unmap().String()}
	}
	if len(text) > 253 || strings.ContainsFunc(text, func(r rune) bool {
		return r != '-' && r != '_' && r != '.' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		d.note(place, "%s is not carried over: it is neither an address nor a host name", quoted(text))
		return nil
	}
	return []string{text}
}
