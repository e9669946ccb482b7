package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// redactor replaces what tells who and where by placeholders, the same by the same one. What it
// does not know to be harmless is not: a word passes if it is one of this program's own words,
// a number if it is short, an address if it is private or has a meaning of its own.
//
// It learns names where they stand as such, and finds them in text from then on, so that all is to
// be redacted twice: what the first time gave is thrown away.
type redactor struct {
	withNames bool // names, hosts and addresses stay; secrets, users and paths do not
	counts    map[string]int
	names     forms
	secrets   forms
}

// forms are texts that are known, in small letters, and what stands for them.
type forms struct {
	of      map[string]form
	lengths []int // the longest first
}

type form struct {
	is   string // the placeholder
	word bool   // only as a whole word
	here bool   // only where it stands by itself
}

// learn adds one, unless the same text is known already.
func (f *forms) learn(text string, is form) {
	text = fold(text)
	if _, ok := f.of[text]; ok || text == "" {
		return
	}
	f.of[text] = is
	if !slices.Contains(f.lengths, len(text)) {
		f.lengths = append(f.lengths, len(text))
		slices.Sort(f.lengths)
		slices.Reverse(f.lengths)
	}
}

// at returns the placeholder of the longest one that stands at a place in a folded text, and its
// length; 0 if there is none.
func (f *forms) at(folded string, at int) (string, int) {
	for _, n := range f.lengths {
		if at+n > len(folded) {
			continue
		}
		form, ok := f.of[folded[at:at+n]]
		if ok && !form.here && (!form.word || isEdge(folded, at) && isEdge(folded, at+n)) {
			return form.is, n
		}
	}
	return "", 0
}

// replace puts the placeholders in place of what is known, and between through the rest.
func (f *forms) replace(text string, between func(string) string) string {
	var b strings.Builder
	folded := fold(text)
	begin := 0 // of what is not written yet
	for at := 0; at < len(text); {
		is, n := f.at(folded, at)
		if n == 0 {
			at++
			continue
		}
		b.WriteString(between(text[begin:at]) + is)
		at += n
		begin = at
	}
	return b.String() + between(text[begin:])
}

func asIs(text string) string { return text }

const secretPlaceholder = "[secret]"

func newRedactor(withNames bool) *redactor {
	return &redactor{withNames: withNames, counts: map[string]int{}, names: forms{of: map[string]form{}}, secrets: forms{of: map[string]form{}}}
}

// secret makes the redactor know a secret. What of it is encoded is found too.
func (r *redactor) secret(octets []byte) {
	for _, f := range append(encodings(octets), string(octets)) {
		r.secrets.learn(f, form{is: secretPlaceholder})
	}
}

// name returns the placeholder of something: its kind and a number. The same text has the same
// one, of the kind that it was first.
func (r *redactor) name(kind, text string) string {
	if r.withNames && !alwaysReplaced[kind] {
		return r.names.replace(text, asIs) // of users
	}
	if text == "" {
		return ""
	}
	if known, ok := r.names.of[fold(text)]; ok {
		return known.is
	}
	r.counts[kind]++
	is := kind + strconv.Itoa(r.counts[kind])
	const guessable = 4 // octets; what is shorter occurs in any base64, and as a number in any address
	switch {
	case kind == kindWord || kind == kindBlob || kind == kindAddress || len(text) < guessable && runOf(text, unicode.IsDigit) == len(text):
		r.names.learn(text, form{is: is, here: true}) // found by what it looks like, or not to be looked for
	case len(text) < guessable:
		r.names.learn(text, form{is: is, word: true})
	default:
		r.names.learn(text, form{is: is, word: true})
		for _, f := range encodings([]byte(text)) {
			r.names.learn(f, form{is: is})
		}
	}
	return is
}

// encodings are the ways in which octets may come out beside as they are.
func encodings(octets []byte) []string {
	text := string(octets)
	spaced := fmt.Sprintf("% x", octets)
	quoted, _ := json.Marshal(text) // a string can be
	out := []string{
		hex.EncodeToString(octets), spaced, strings.ReplaceAll(spaced, " ", ":"), strings.Trim(fmt.Sprint(octets), "[]"),
		url.QueryEscape(text), url.PathEscape(text), strings.Trim(strconv.Quote(text), `"`), strings.Trim(string(quoted), `"`),
		strings.ToUpper(text), strings.ToLower(text),
	}
	for shift := range min(3, len(octets)) {
		// Whole groups of three octets look the same, however they stand in what is encoded.
		part := octets[shift:]
		if whole := part[:len(part)/3*3]; len(whole) >= 6 {
			out = append(out, base64.StdEncoding.EncodeToString(whole), base64.URLEncoding.EncodeToString(whole))
		}
	}
	out = append(out, base64.RawStdEncoding.EncodeToString(octets), base64.RawURLEncoding.EncodeToString(octets))
	return slices.DeleteFunc(out, func(f string) bool { return f == "" || fold(f) == fold(text) })
}

// fold is text in small letters of ASCII, as long as it was.
func fold(text string) string {
	b := []byte(text)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// isEdge tells whether a word may begin or end there.
func isEdge(text string, at int) bool {
	return at == 0 || at == len(text) || !isWordOctet(text[at-1]) || !isWordOctet(text[at])
}

func isWordOctet(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c >= utf8.RuneSelf
}

// scrub takes secrets out of what is done with, whatever it made of them.
func (r *redactor) scrub(text string) string {
	for range 3 {
		clean := r.secrets.replace(text, asIs)
		if clean == text {
			return text
		}
		text = clean
	}
	// What stands for secrets makes others: then nothing stands for them, and it gets shorter
	// until there are none.
	bare := forms{of: map[string]form{}, lengths: r.secrets.lengths}
	for f := range r.secrets.of {
		bare.of[f] = form{}
	}
	for {
		clean := bare.replace(text, asIs)
		if clean == text {
			return text
		}
		text = clean
	}
}

// address returns an address, or what stands for it.
func (r *redactor) address(a netip.Addr) string {
	if isHarmless(a.Unmap()) {
		return a.String()
	}
	return r.name(kindAddress, a.Unmap().WithZone("").String())
}

// isHarmless tells whether an address says nothing of who has it.
func isHarmless(a netip.Addr) bool {
	if a.IsLinkLocalUnicast() && a.Is6() {
		return a.As16()[15] == 1 && a.As16()[8] == 0 // others may have been made of a MAC address
	}
	return a.IsPrivate() || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() ||
		sharedAddresses.Contains(a) || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

var sharedAddresses = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

// prefix does the same for a prefix; half of the Internet is nobody's.
func (r *redactor) prefix(p netip.Prefix) string {
	if p.Addr().Is4() && p.Bits() <= 8 || p.Addr().Is6() && p.Bits() <= 16 {
		return p.String()
	}
	return r.address(p.Addr()) + "/" + strconv.Itoa(p.Bits())
}
