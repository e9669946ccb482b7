package pki

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// String types of ASN.1 that cryptobyte does not name.
const (
	tagNumericString   asn1.Tag = 18
	tagVisibleString   asn1.Tag = 26
	tagUniversalString asn1.Tag = 28
	tagBMPString       asn1.Tag = 30
)

// attributeType is a kind of part of a distinguished name.
type attributeType struct {
	oid   string
	tag   asn1.Tag // how text is written
	names []string // the first is shown
}

// attributeTypes are the names that strongSwan knows, with its string types.
func attributeTypes() []attributeType {
	return []attributeType{
		{"2.5.4.3", asn1.PrintableString, []string{"CN"}},
		{"2.5.4.10", asn1.PrintableString, []string{"O"}},
		{"2.5.4.11", asn1.PrintableString, []string{"OU"}},
		{"2.5.4.6", asn1.PrintableString, []string{"C"}},
		{"2.5.4.8", asn1.PrintableString, []string{"ST"}},
		{"2.5.4.7", asn1.PrintableString, []string{"L"}},
		{"1.2.840.113549.1.9.1", asn1.IA5String, []string{"E", "Email", "emailAddress"}},
		{"0.9.2342.19200300.100.1.25", asn1.PrintableString, []string{"DC"}},
		{"0.9.2342.19200300.100.1.1", asn1.PrintableString, []string{"UID"}},
		{"2.5.4.4", asn1.PrintableString, []string{"S"}},
		{"2.5.4.5", asn1.PrintableString, []string{"SN", "serialNumber"}},
		{"2.5.4.9", asn1.PrintableString, []string{"street"}},
		{"2.5.4.17", asn1.PrintableString, []string{"postalCode"}},
		{"2.5.4.12", asn1.PrintableString, []string{"T"}},
		{"2.5.4.13", asn1.PrintableString, []string{"D"}},
		{"2.5.4.41", asn1.PrintableString, []string{"N"}},
		{"2.5.4.42", asn1.PrintableString, []string{"G"}},
		{"2.5.4.43", asn1.PrintableString, []string{"I"}},
		{"2.5.4.45", asn1.PrintableString, []string{"ID"}},
		{"2.5.4.46", asn1.PrintableString, []string{"dnQualifier"}},
		{"2.16.840.1.113730.3.1.3", asn1.PrintableString, []string{"EN", "employeeNumber"}},
		{"1.2.840.113549.1.9.2", asn1.IA5String, []string{"UN", "unstructuredName"}},
		{"1.2.840.113549.1.9.8", asn1.PrintableString, []string{"UA", "unstructuredAddress"}},
		{"1.3.36.8.3.9", asn1.PrintableString, []string{"ND"}},
	}
}

// attributeTypeOf finds a name, in any case, or a number such as 2.5.4.3.
func attributeTypeOf(name string) (attributeType, bool) {
	for _, t := range attributeTypes() {
		if t.oid == name || slices.ContainsFunc(t.names, func(n string) bool { return equalFold(n, name) }) {
			return t, true
		}
	}
	if oid, err := x509.ParseOID(name); err == nil {
		return attributeType{oid: oid.String(), tag: asn1.PrintableString}, true
	}
	return attributeType{}, false
}

// parseDN writes a distinguished name from text in DER, each part in a set of its
// own.
func parseDN(s string) ([]byte, error) {
	sep := byte(',')
	if strings.HasPrefix(s, "/") {
		s, sep = s[1:], '/'
	}
	var b cryptobyte.Builder
	var failed error
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for s != "" && failed == nil {
			var part string
			part, s = cutUnescaped(s, sep)
			failed = addAttribute(b, part)
		}
	})
	if failed != nil {
		return nil, failed
	}
	raw, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("distinguished name: %w", err)
	}
	return raw, nil
}

func addAttribute(b *cryptobyte.Builder, part string) error {
	name, text, ok := strings.Cut(part, "=")
	name = strings.Trim(name, " ")
	if !ok || name == "" {
		return fmt.Errorf("part %s is not NAME=VALUE", quote(part))
	}
	t, ok := attributeTypeOf(name)
	if !ok {
		return fmt.Errorf("unknown name %s; known are CN, O, OU, C, ST, L, E, DC, UID and numbers such as 2.5.4.3", quote(name))
	}
	value, err := unescape(strings.TrimLeft(text, " "))
	if err != nil {
		return err
	}
	tag := t.tag
	if tag == asn1.PrintableString && !isPrintableString(value) {
		tag = asn1.UTF8String
	}
	if tag == asn1.IA5String && !isASCII(value) {
		return fmt.Errorf("%s allows ASCII only", name)
	}
	oid, err := x509.ParseOID(t.oid)
	if err != nil {
		return fmt.Errorf("object identifier %s: %w", t.oid, err)
	}
	body, err := oid.MarshalBinary()
	if err != nil {
		return fmt.Errorf("object identifier %s: %w", t.oid, err)
	}
	b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(body) })
			b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(value)) })
		})
	})
	return nil
}

// cutUnescaped cuts at the first sep that no backslash precedes.
func cutUnescaped(s string, sep byte) (before, after string) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// unescape undoes RFC 4514 §2.4 and drops unescaped spaces at the end.
func unescape(s string) (string, error) {
	var out []byte
	keep := 0 // out up to here is not an unescaped space
	for i := 0; i < len(s); i++ {
		c := s[i]
		escaped := c == '\\'
		if escaped {
			if i++; i == len(s) {
				return "", errors.New("a backslash at the end escapes nothing")
			}
			c = s[i]
			if raw, err := hex.DecodeString(s[i:min(i+2, len(s))]); err == nil && len(raw) == 1 {
				c = raw[0]
				i++
			}
		}
		out = append(out, c)
		if escaped || c != ' ' {
			keep = len(out)
		}
	}
	if !utf8.Valid(out[:keep]) {
		return "", errors.New("the escaped octets are not UTF-8")
	}
	return string(out[:keep]), nil
}

// attribute is one part of a name in DER.
type attribute struct {
	oid   string // content octets
	tag   asn1.Tag
	value string
}

// readDN takes a distinguished name apart: sets of attributes, mostly of one each.
// It refuses anything left over at any level.
func readDN(raw string) ([][]attribute, bool) {
	in := cryptobyte.String(raw)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() {
		return nil, false
	}
	var dn [][]attribute
	for !seq.Empty() {
		var set cryptobyte.String
		if !seq.ReadASN1(&set, asn1.SET) || set.Empty() {
			return nil, false
		}
		var rdn []attribute
		for !set.Empty() {
			var one, oid, value cryptobyte.String
			var tag asn1.Tag
			if !set.ReadASN1(&one, asn1.SEQUENCE) || !one.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) ||
				!one.ReadAnyASN1(&value, &tag) || !one.Empty() {
				return nil, false
			}
			rdn = append(rdn, attribute{string(oid), tag, string(value)})
		}
		dn = append(dn, rdn)
	}
	return dn, true
}

// matchDN compares two names in DER. Values that are text in both are compared octet
// for octet whatever the string types, but for two PrintableStrings, and e-mail
// addresses, where ASCII case is ignored; all else must be the same (strongSwan's
// rule). With wild set a value "*" in m stands for any. Names that cannot be read
// are equal only if identical.
func matchDN(m, id string, wild bool) bool {
	if m == id {
		return true
	}
	a, ok := readDN(m)
	if !ok {
		return false
	}
	b, ok := readDN(id)
	return ok && slices.EqualFunc(a, b, func(x, y []attribute) bool {
		return slices.EqualFunc(x, y, func(x, y attribute) bool { return x.matches(y, wild) })
	})
}

func (a attribute) matches(b attribute, wild bool) bool {
	if a.oid != b.oid {
		return false
	}
	if wild && a.value == "*" && isTextTag(a.tag) {
		return true
	}
	if a.tag != b.tag {
		// Outside ASCII the string types give the same octets another meaning.
		return isTextTag(a.tag) && isTextTag(b.tag) && a.value == b.value && isASCII(a.value)
	}
	if a.tag == asn1.PrintableString || a.tag == asn1.IA5String && a.name() == "E" {
		return equalFold(a.value, b.value)
	}
	return a.value == b.value
}

// name is how the attribute is called: a short name or a number.
func (a attribute) name() string {
	var oid x509.OID
	if oid.UnmarshalBinary([]byte(a.oid)) != nil {
		return "#" + shownHex(a.oid)
	}
	number := oid.String()
	if t, ok := attributeTypeOf(number); ok && len(t.names) > 0 {
		return t.names[0]
	}
	return number
}

// formatDN shows a name as parseDN reads it. Control characters and the
// separators are escaped.
func formatDN(raw string) (string, bool) {
	dn, ok := readDN(raw)
	if !ok || len(dn) == 0 {
		return "", false
	}
	var b strings.Builder
	for i, rdn := range dn {
		if b.Len() > 16*maxShown {
			fmt.Fprintf(&b, ", ... (%d octets)", len(raw))
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		for j, a := range rdn {
			if j > 0 {
				b.WriteString(" + ")
			}
			if b.Len() > 32*maxShown {
				b.WriteString("...")
				break
			}
			b.WriteString(a.name())
			b.WriteByte('=')
			b.WriteString(a.shown())
		}
	}
	return b.String(), true
}

func (a attribute) shown() string {
	if !isTextTag(a.tag) {
		return "#" + shownHex(a.value)
	}
	var b strings.Builder
	for i, r := range a.value {
		if i >= maxShown {
			fmt.Fprintf(&b, "... (%d octets)", len(a.value))
			break
		}
		_, n := utf8.DecodeRuneInString(a.value[i:])
		edge := r == ' ' && (i == 0 || i+n == len(a.value))
		switch {
		case edge, r == utf8.RuneError && n == 1, !unicode.IsPrint(r):
			for _, c := range []byte(a.value[i : i+n]) {
				fmt.Fprintf(&b, `\%02x`, c)
			}
		case r == ',' || r == '\\' || r == '+':
			b.WriteByte('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// isTextTag tells the string types whose ASCII characters are ASCII octets.
func isTextTag(t asn1.Tag) bool {
	switch t {
	case asn1.PrintableString, asn1.UTF8String, asn1.IA5String, asn1.T61String, tagNumericString, tagVisibleString:
		return true
	}
	return false
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func isPrintableString(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			strings.IndexByte(" '()+,-./:=?", c) >= 0:
		default:
			return false
		}
	}
	return true
}
