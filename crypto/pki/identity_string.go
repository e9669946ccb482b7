package pki

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxShown is how many octets of a part of an identity are shown to people.
const maxShown = 256

// String is the identity for people and logs. It is printable whatever the peer
// sent: what is not is shown as \xNN, what is long is cut. Where the text alone would
// read as another type, the type stands before it. MarshalText is the form that
// can be read back.
func (id Identity) String() string {
	if id.IsZero() {
		return "%any"
	}
	text, word := id.text()
	if word == "" {
		return text
	}
	if back, err := parseIdentity(text); err == nil && back.Type == id.Type {
		return text
	}
	return word + ":" + text
}

// text shows the octets, and gives the word of the grammar for the type; with an
// empty word the text stands for itself.
func (id Identity) text() (text, word string) {
	switch id.Type {
	case IDIPv4Addr, IDIPv6Addr:
		if a, ok := id.addr(); ok {
			return a.String(), ""
		}
	case idIPv4Subnet, idIPv6Subnet, idIPv4Range, idIPv6Range:
		if first, last, ok := id.span(); ok {
			return first.String() + "-" + last.String(), ""
		}
	case IDFQDN:
		return printable(id.Data), "fqdn"
	case IDRFC822Addr:
		return printable(id.Data), "email"
	case IDDERASN1DN:
		if text, ok := formatDN(id.Data); ok {
			return text, "asn1dn"
		}
	case IDKeyID:
		if id.Data != "" && id.Data[0] != '#' && isPlain(id.Data) {
			return "keyid:" + printable(id.Data), ""
		}
		return "@#" + shownHex(id.Data), ""
	}
	return "{" + strconv.Itoa(int(id.Type)) + "}:#" + shownHex(id.Data), ""
}

// MarshalText writes the identity so that UnmarshalText gives the same one.
func (id Identity) MarshalText() ([]byte, error) {
	s := id.String()
	if back, err := parseIdentity(s); err == nil && back == id {
		return []byte(s), nil
	}
	return fmt.Appendf(nil, "{%d}:#%x", id.Type, id.Data), nil
}

// UnmarshalText reads what ParseIdentity reads.
func (id *Identity) UnmarshalText(text []byte) error {
	parsed, err := ParseIdentity(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// span is the first and the last address of a matcher of addresses.
func (id Identity) span() (first, last netip.Addr, ok bool) {
	half := 4
	switch id.Type {
	case idIPv4Subnet, idIPv4Range:
	case idIPv6Subnet, idIPv6Range:
		half = 16
	default:
		return first, last, false
	}
	if len(id.Data) != 2*half {
		return first, last, false
	}
	lo, hi := []byte(id.Data[:half]), []byte(id.Data[half:])
	if id.Type == idIPv4Subnet || id.Type == idIPv6Subnet {
		for i, mask := range hi {
			lo[i], hi[i] = lo[i]&mask, lo[i]|^mask
		}
	}
	first, _ = netip.AddrFromSlice(lo)
	last, _ = netip.AddrFromSlice(hi)
	return first, last, true
}

// printable shows octets that should be UTF-8 text.
func printable(s string) string {
	var b strings.Builder
	for i, r := range s {
		if i >= maxShown {
			fmt.Fprintf(&b, "... (%d octets)", len(s))
			break
		}
		_, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1, !unicode.IsPrint(r):
			for _, c := range []byte(s[i : i+n]) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		case r == '\\':
			b.WriteString(`\\`)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// isPlain tells whether printable leaves s as it is.
func isPlain(s string) bool { return len(s) < maxShown && printable(s) == s }

// quote shows a text in an error.
func quote(s string) string { return `"` + printable(s) + `"` }

func shownHex(s string) string {
	if len(s) > maxShown {
		return hex.EncodeToString([]byte(s[:maxShown])) + fmt.Sprintf("... (%d octets)", len(s))
	}
	return hex.EncodeToString([]byte(s))
}
