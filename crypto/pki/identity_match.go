package pki

import "strings"

// Match tells whether the identity id fits the matcher m. The zero matcher fits
// everybody; otherwise the types must be the same. Host names and the domains of
// e-mail addresses are compared without regard to ASCII case, distinguished names
// part by part. Wildcards count in m only: a '*' that a peer sends is a star.
func (m Identity) Match(id Identity) bool {
	if m.IsZero() || m == id {
		return true
	}
	if first, last, ok := m.span(); ok {
		a, ok := id.addr()
		return ok && first.Is4() == a.Is4() && first.Compare(a) <= 0 && a.Compare(last) <= 0
	}
	if m.Type != id.Type {
		return false
	}
	switch m.Type {
	case IDFQDN, IDRFC822Addr:
		return matchText(m.Data, id.Data, m.Type == IDRFC822Addr)
	case IDDERASN1DN:
		return matchDN(m.Data, id.Data, true)
	}
	return false
}

func matchText(m, id string, email bool) bool {
	// A NUL or a line break inside a name is an attempt to be read as another one.
	if hasControl(id) {
		return false
	}
	if tail, ok := strings.CutPrefix(m, "*"); ok {
		return len(id) > len(tail) && sameText(tail, id[len(id)-len(tail):], email)
	}
	return sameText(m, id, email)
}

// sameText compares host names, or e-mail addresses whose part before the last '@' is
// case-sensitive (RFC 5321 §2.4).
func sameText(a, b string, email bool) bool {
	if len(a) != len(b) {
		return false
	}
	if !email {
		return equalFold(a, b)
	}
	at := strings.LastIndexByte(a, '@') + 1
	return a[:at] == b[:at] && equalFold(a[at:], b[at:])
}

// equalFold ignores the case of ASCII letters only: strings.EqualFold would take the
// Kelvin sign for a k.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

func hasControl(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return true
		}
	}
	return false
}
