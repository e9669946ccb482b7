package main

import (
	_ "embed"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

// The kinds of placeholders.
const (
	kindUser       = "user"
	kindHost       = "host"
	kindAddress    = "address"
	kindIdentity   = "identity" // whatever a peer says it is
	kindConnection = "connection"
	kindChild      = "child"
	kindPool       = "pool"
	kindGroup      = "group"
	kindPath       = "path"
	kindName       = "name"
	kindWord       = "word" // that this program does not know
	kindBlob       = "blob" // of octets in hexadecimal or base64
	kindMAC        = "mac"
	kindSubject    = "subject" // a distinguished name
)

// alwaysReplaced are the kinds that nobody can ask to have in a bundle.
var alwaysReplaced = map[string]bool{kindUser: true, kindPath: true, kindBlob: true, kindMAC: true}

// wordsText has every word of the program's texts, and of those of the libraries whose errors it
// tells; vocabulary_test.go makes it.
//
//go:embed words.txt
var wordsText string

// moreWords are those of what other programs of the host print.
const moreWords = `addr addrgenmode addr_info anycast arp broadcast bridge br brd carrier cidr codel counter
	dadfailed deprecated dev docker down dst dynamic enp ens eno enx eth fdb fq fwmark group gre handle hook
	hooks id ifalias ifindex ifname inet iif ipip lft lo loopback lower mangle master metainfo metric mngtmpaddr mq
	multicast nftables nhid noarp noprefixroute noqueue nodad oif onlink operstate parentbus parentdev pci permaddr
	pmtu pointopoint pref preferred prefixlen prefsrc prio priority promiscuity qdisc qlen qlen ra rpfilter scope
	sit src srclen suppress tap temporary tentative table throw tun txqlen txqueuelen unicast unreachable up
	valid veth virbr vlan wg wlan wlp wwan xfrm json schema version release metadata debian ubuntu alpine fedora arch
	nixos rhel centos rocky almalinux opensuse leap tumbleweed raspbian openwrt amzn lts generic cloud amd arm riscv
	ms us ns kib mib gib tib tid pid uid gid utc ok net ike esp udp tcp`

// vocabulary is read when it is needed for the first time.
var vocabulary = sync.OnceValue(func() map[string]bool {
	words := map[string]bool{}
	for _, list := range []string{wordsText, moreWords} {
		for word := range strings.FieldsSeq(list) {
			words[word] = true
		}
	}
	return words
})

// named matches a value in the log, or a label of the metrics, whose key says that it is a name.
var named = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\b([a-z_]+)=("(?:[^"\\]|\\.)*"|[^\s"{},]+)`) })

// nameKeys are those keys, in logs, metrics and JSON, and what their values are.
var nameKeys = map[string]string{
	"peer": kindIdentity, "local_id": kindIdentity, "remote_id": kindIdentity, "identity": kindIdentity,
	"user": kindUser, "owner": kindName, "session": kindName, "name": kindName, "reply": kindName, "program": kindName,
	"conn": kindConnection, "connection": kindConnection, "connections": kindConnection,
	"child": kindChild, "pool": kindPool, "ca": kindPath, "path": kindPath, "file": kindPath,
	"domains": kindHost, "search": kindHost, "server": kindHost, "door": kindName, "ifalias": kindName,
}

// is gives what stands for a value of a kind.
func (r *redactor) is(kind, value string) string {
	switch {
	case kind == kindIdentity || kind == kindHost:
		return r.identity(value)
	case kind == kindUser:
		return r.user(value)
	case kind == kindPath:
		return r.path(value)
	case value == defaultChild && kind == kindChild, kind == kindName && r.passes(value):
		return value
	}
	return r.name(kind, value)
}

// defaultChild is what a child is called that nobody gave a name.
const defaultChild = "net"

// text redacts text for people, as log lines and errors are.
func (r *redactor) text(text string) string {
	var b strings.Builder
	for {
		m := named().FindStringSubmatchIndex(text)
		if m == nil {
			break
		}
		kind, ok := nameKeys[text[m[2]:m[3]]]
		if !ok {
			b.WriteString(r.words(text[:m[4]]))
			text = text[m[4]:]
			if strings.HasPrefix(text, `"`) {
				b.WriteString(`"`)
				text = text[1:]
			}
			continue
		}
		b.WriteString(r.words(text[:m[4]]))
		value := text[m[4]:m[5]]
		if unquoted, err := strconv.Unquote(value); err == nil {
			b.WriteString(strconv.Quote(r.is(kind, unquoted)))
		} else {
			b.WriteString(r.is(kind, value))
		}
		text = text[m[5]:]
	}
	b.WriteString(r.words(text))
	return b.String()
}

// words redacts text without keys: what is known, and then each word by itself.
func (r *redactor) words(text string) string {
	return r.secrets.replace(text, func(text string) string { return r.names.replace(text, r.tokens) })
}

// isSeparator tells what stands between words.
func isSeparator(c rune) bool {
	return unicode.IsSpace(c) || strings.ContainsRune("\"'`()<>{},;|=\\!?", c) || unicode.IsControl(c)
}

func (r *redactor) tokens(text string) string {
	var b strings.Builder
	for len(text) > 0 {
		if n := strings.IndexFunc(text, func(c rune) bool { return !isSeparator(c) }); n != 0 {
			if n < 0 {
				n = len(text)
			}
			b.WriteString(text[:n])
			text = text[n:]
			continue
		}
		n := strings.IndexFunc(text, isSeparator)
		if n < 0 {
			n = len(text)
		}
		word := strings.TrimRight(text[:n], ".:") // of the sentence
		b.WriteString(r.word(word) + text[len(word):n])
		text = text[n:]
	}
	return b.String()
}

var (
	mac      = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5,7}$`) })
	hexWord  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(0x)?[0-9a-fA-F]+$`) })
	spi      = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(0x)?([0-9a-f]{8}|[0-9a-f]{16})$`) })
	hostname = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[\pL\pN_-]+(\.[\pL\pN_-]+)*\.[\pL-]{2,}$`) })
	ranges   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([0-9a-fA-F.:]+)-([0-9a-fA-F.:]+)$`) })
	spaced   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(.+?)(\[.*\])$`) }) // a selector and its ports
	longest  = 10                                                                                     // digits of a number
	// embedded is an address in a longer word, or as parts of host names have it.
	embedded = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\d{1,3}([.-]\d{1,3}){3}|::`) })
)

// ownFiles may be named: they are the same on every host.
var ownFiles = map[string]bool{
	"/etc/resolv.conf": true, "/dev/net/tun": true, "/run/martlet": true, "/run/martlet/control.sock": true, "/etc/nsswitch.conf": true,
	"/proc/self/cgroup": true, "/.dockerenv": true, "/run/.containerenv": true,
}

// word redacts what stands between separators.
func (r *redactor) word(word string) string {
	if word == "" {
		return ""
	}
	const longestWord = 256 // octets; no text has such
	if len(word) > longestWord {
		return r.name(kindBlob, word)
	}
	if inside, ok := r.addressed(word); ok {
		return inside
	}
	switch {
	case mac().MatchString(word):
		if strings.Trim(word, "0:-") == "" || strings.Trim(word, "fF:-") == "" {
			return word
		}
		return r.name(kindMAC, word)
	case strings.Contains(strings.Trim(word, "@"), "@"):
		return r.identity(word)
	case strings.HasPrefix(word, "file:"):
		return "file:" + r.path(word[len("file:"):])
	case strings.Contains(word, "://"):
		scheme, rest, _ := strings.Cut(word, "://")
		host, path, _ := strings.Cut(rest, "/")
		return strings.TrimSuffix(r.word(scheme)+"://"+r.word(host)+"/"+r.word(path), "/")
	case strings.HasPrefix(word, "/") && word != "/" || strings.HasPrefix(word, "./") || strings.HasPrefix(word, "~"):
		return r.path(word)
	case spi().MatchString(word):
		return word
	case hostname().MatchString(word):
		if table, _, _ := strings.Cut(word, "."); tables[table] {
			return r.key(word)
		}
		return r.name(kindHost, word)
	case r.isBlob(word):
		return r.name(kindBlob, word)
	case r.withNames, r.passes(word):
		return word
	}
	return r.parts(word)
}

// tables are those at the top of a configuration.
var tables = map[string]bool{
	"node": true, "connection": true, "pool": true, "radius": true, "user": true, "proxy": true, "forward": true, "dns": true, "userspace": true,
}

// key redacts the path of a key of the configuration.
func (r *redactor) key(path string) string {
	parts := strings.Split(path, ".")
	for i, part := range parts {
		if !r.passes(part) {
			parts[i] = r.name(kindName, part)
		}
	}
	return strings.Join(parts, ".")
}

// parts redacts a word that has words with other signs between them.
func (r *redactor) parts(word string) string {
	for _, sign := range []string{"/", ":", "[", "]", "+", "&", "*"} {
		if before, after, ok := strings.Cut(word, sign); ok {
			return r.word(before) + sign + r.word(after)
		}
	}
	return r.name(kindWord, word)
}

// isBlob tells what looks like octets that are written down.
func (r *redactor) isBlob(word string) bool {
	const short, long = 7, 24
	if hexWord().MatchString(word) && strings.ContainsAny(word, "0123456789") && strings.ContainsAny(word, "abcdefABCDEF") && len(word) >= short {
		return true
	}
	return len(word) >= long && strings.ContainsAny(word, "0123456789+/=") && !r.passes(word)
}

// addressed redacts a word that is an address, with or without what addresses have around them.
func (r *redactor) addressed(word string) (string, bool) {
	if m := spaced().FindStringSubmatch(word); m != nil {
		if is, ok := r.addressed(m[1]); ok {
			return is + r.parts(m[2]), true
		}
	}
	bare := strings.TrimSuffix(strings.TrimPrefix(word, "["), "]")
	if a, err := netip.ParseAddr(bare); err == nil && !strings.Contains(a.Zone(), "]") {
		return strings.Replace(word, bare, r.address(a), 1), true
	}
	if p, err := netip.ParsePrefix(word); err == nil {
		return r.prefix(p), true
	}
	if ap, err := netip.ParseAddrPort(word); err == nil {
		is := r.address(ap.Addr())
		if ap.Addr().Is6() && strings.Contains(is, ":") {
			is = "[" + is + "]"
		}
		return is + ":" + strconv.Itoa(int(ap.Port())), true
	}
	if m := ranges().FindStringSubmatch(word); m != nil {
		from, err := netip.ParseAddr(m[1])
		to, err2 := netip.ParseAddr(m[2])
		if err == nil && err2 == nil {
			return r.address(from) + "-" + r.address(to), true
		}
	}
	return "", false
}

// passes tells whether a word is harmless: of known words, single letters and short numbers.
func (r *redactor) passes(word string) bool {
	if embedded().MatchString(word) {
		return false
	}
	for rest := word; rest != ""; {
		first := rune(rest[0])
		n := 1
		switch {
		case unicode.IsDigit(first) && first < unicode.MaxASCII:
			n = runOf(rest, func(c rune) bool { return '0' <= c && c <= '9' })
			if n > longest {
				return false
			}
		case first > unicode.MaxASCII || unicode.IsLetter(first):
			n = runOf(rest, unicode.IsLetter)
			if n == 0 {
				return strings.ContainsRune("…–·×", []rune(rest)[0]) && r.passes(string([]rune(rest)[1:]))
			}
			if n > 1 && !vocabulary()[strings.ToLower(rest[:n])] {
				return false
			}
		}
		rest = rest[n:]
	}
	return true
}

// runOf is how long a text begins with such.
func runOf(text string, of func(rune) bool) int {
	if n := strings.IndexFunc(text, func(c rune) bool { return !of(c) }); n >= 0 {
		return n
	}
	return len(text)
}

// identity redacts the name of a peer, of a host, or of somebody at a host.
func (r *redactor) identity(id string) string {
	if is, ok := r.addressed(id); ok {
		return is
	}
	switch {
	case id == "" || id == "%any" || id == "*" || id == ".":
		return id
	case strings.Contains(id, "="):
		return r.subject(id)
	case strings.Contains(id, "@"):
		at := strings.LastIndex(id, "@")
		return r.user(id[:at]) + "@" + r.host(id[at+1:])
	case strings.HasPrefix(id, "*."):
		return "*." + r.host(id[2:])
	}
	return r.host(id)
}

// host redacts the name of a host or a domain, or an address, with or without a port.
func (r *redactor) host(host string) string {
	if is, ok := r.addressed(host); ok {
		return is
	}
	if name, port, ok := strings.Cut(host, ":"); ok && runOf(port, unicode.IsDigit) == len(port) {
		return r.host(name) + ":" + port
	}
	return r.name(kindHost, host)
}

// user redacts the name of an account, which may have a domain before or behind it.
func (r *redactor) user(name string) string {
	switch {
	case name == "" || name == "*" || name == "%any":
		return name
	case strings.Contains(name, "@"):
		at := strings.LastIndex(name, "@")
		return r.user(name[:at]) + "@" + r.host(name[at+1:])
	case strings.Contains(name, `\`):
		domain, account, _ := strings.Cut(name, `\`)
		return r.name(kindHost, domain) + `\` + r.user(account)
	}
	return r.name(kindUser, name)
}

// subject redacts a distinguished name, and learns what it is made of.
func (r *redactor) subject(dn string) string {
	for attribute := range strings.SplitSeq(dn, ",") {
		_, value, _ := strings.Cut(attribute, "=")
		if value = strings.Trim(strings.TrimSpace(value), `"`); value != "" && value != "*" {
			if strings.Contains(value, "@") || hostname().MatchString(value) {
				r.identity(value)
			} else {
				r.name(kindName, value)
			}
		}
	}
	return r.name(kindSubject, dn)
}

// path redacts the name of a file.
func (r *redactor) path(path string) string {
	if ownFiles[path] || path == "system" || path == "" {
		return path
	}
	return r.name(kindPath, path)
}
