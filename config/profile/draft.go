package profile

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"martlet/config"
	"martlet/crypto/pki"
	"martlet/crypto/suite"
)

const (
	// maxConnections bounds what one profile can define.
	maxConnections = 500
	// maxNotes bounds what anybody could read.
	maxNotes = 2000
	// maxProposals bounds the proposals of one list, and maxProposal the octets of one.
	maxProposals = 100
	maxProposal  = 300
	// maxShown bounds a text of the profile in a note or an error, in octets.
	maxShown = 200
)

// draft is an import on its way. Readers of formats add to it; finish ends it.
type draft struct {
	*Imported
	o         Options
	names     map[string]bool   // of connections, in small letters
	fileNames map[string]string // names of Files, by the same in small letters
	needed    map[string]bool   // connections for which something is missing
	now       string            // the connection that is being read
	readers                     // files that the profile names
}

func newDraft(format string, o Options) *draft {
	return &draft{
		Imported: &Imported{Format: format, Files: map[string][]byte{}, name: shown(o.Name)},
		o:        o, names: map[string]bool{}, fileNames: map[string]string{}, needed: map[string]bool{},
	}
}

// note adds a note about a place of the profile.
func (d *draft) note(place, text string, args ...any) { d.add(place, false, text, args...) }

// need adds a note about what the current connection lacks.
func (d *draft) need(place, text string, args ...any) {
	d.needed[d.now] = true
	d.add(place, true, text, args...)
}

func (d *draft) add(place string, needed bool, text string, args ...any) {
	if len(d.Notes) == maxNotes {
		return
	}
	n := Note{shown(place), oneLine(fmt.Sprintf(text, args...)), needed}
	if len(d.Notes) == maxNotes-1 {
		n = Note{Text: "there is more that could not be carried over, and nobody would read it"}
	}
	if !slices.Contains(d.Notes, n) {
		d.Notes = append(d.Notes, n)
	}
}

// connection begins a connection with a name of its own, made from the one in the profile.
func (d *draft) connection(name string) *config.Connection {
	d.now = d.unique(name, d.names)
	return &config.Connection{Name: d.now, Children: map[string]*config.Child{}}
}

// keep adds a connection to what is imported.
func (d *draft) keep(c *config.Connection) {
	if len(d.Connections) == maxConnections {
		d.note(c.Name, "left out: there are more than %d connections", maxConnections)
		return
	}
	d.Connections = append(d.Connections, c)
}

// unique makes a name that config takes, and that is not taken.
func (d *draft) unique(name string, taken map[string]bool) string {
	base := plainName(name)
	if base == "" {
		base = plainName(strings.TrimSuffix(lastElement(d.o.Name), extension(d.o.Name)))
	}
	if base == "" {
		base = "vpn"
	}
	name = base
	// Some systems do not tell file names apart by case.
	for i := 2; taken[strings.ToLower(name)]; i++ {
		name = fmt.Sprintf("%s-%d", base, i)
	}
	taken[strings.ToLower(name)] = true
	return name
}

// plainName keeps of a text what a name may have, at most 40 octets.
func plainName(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)),
			strings.ContainsRune("._", r) && b.Len() > 0 && !strings.ContainsRune("._-", rune(b.String()[b.Len()-1])):
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() == 40 {
			break
		}
	}
	return strings.Trim(b.String(), "-._")
}

// file adds a file to write, under a name that is ours: that of the connection and what it is,
// as in "office-ca.pem". What is there already is not added again.
func (d *draft) file(what string, data []byte) string {
	for i := 1; ; i++ {
		name := fileName(d.now, what, i)
		have, taken := d.fileNames[strings.ToLower(name)]
		if !taken {
			d.Files[name], d.fileNames[strings.ToLower(name)] = data, name
			return name
		}
		if bytes.Equal(d.Files[have], data) {
			return have
		}
	}
}

func fileName(connection, what string, i int) string {
	name := connection + "-" + what
	if ext := extension(name); i > 1 {
		name = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(name, ext), i, ext)
	}
	return name
}

// secret puts a secret into a file of its own; what is how the file is called. A secret that
// config would not read back as it is, is written in base64.
func (d *draft) secret(what string, value []byte) config.Secret {
	if len(value) == 0 {
		return config.Secret{}
	}
	text := value
	first, _ := utf8.DecodeRune(value)
	last, _ := utf8.DecodeLastRune(value)
	if bytes.HasPrefix(value, []byte("0s")) || bytes.HasPrefix(value, []byte("0x")) || !utf8.Valid(value) || unicode.IsSpace(first) || unicode.IsSpace(last) ||
		bytes.ContainsFunc(value, unicode.IsControl) {
		text = []byte("0s" + base64.StdEncoding.EncodeToString(value))
	}
	name := d.file(what, append(slices.Clone(text), '\n'))
	return config.Secret{Value: slices.Clone(value), Source: "file:" + name}
}

// missingSecret names a file that somebody has to write.
func (d *draft) missingSecret(place, what, say string) config.Secret {
	name := fileName(d.now, what, 1)
	d.need(place, "%s is not in the profile: write it to %s", say, name)
	return config.Secret{Source: "file:" + name}
}

// identity checks an identity in strongSwan's grammar; what cannot be read is noted.
func (d *draft) identity(place, text string) string {
	id, err := pki.ParseIdentity(text)
	switch {
	case err != nil:
		d.need(place, "the identity is not carried over: %s", bare(err))
		return ""
	case id.IsZero():
		return ""
	}
	return text
}

// literal writes an identity whose type follows from its looks alone: an address, an e-mail
// address, else a host name. Apple, Android and Windows have no other.
func (d *draft) literal(place, text string) string {
	text = strings.TrimSpace(text)
	for _, prefix := range []string{"", "email:", "fqdn:"} {
		if prefix == "email:" && !strings.Contains(text, "@") {
			continue
		}
		id, err := pki.ParseIdentity(prefix + text)
		if err != nil || id.Data == "" {
			continue
		}
		if id.Type == pki.IDFQDN && id.Data == text || id.Type == pki.IDRFC822Addr && id.Data == text || id.Type == pki.IDIPv4Addr || id.Type == pki.IDIPv6Addr {
			if prefix == "fqdn:" && strings.Contains(text, "=") {
				d.note(place, "is sent as a name and not as a distinguished name, as the program does that the profile is for")
			}
			return prefix + text
		}
	}
	if text != "" {
		d.need(place, "the identity %s is not carried over: it is no name and no address", quoted(text))
	}
	return ""
}

// proposals carries proposals in strongSwan's keywords over. Words that Martlet refuses are taken
// out, a proposal of which nothing is left is dropped, and what is weak is named.
func (d *draft) proposals(place string, protocol suite.Protocol, list []string) []string {
	var out []string
	if len(list) > maxProposals {
		d.note(place, "only the first %d proposals are carried over", maxProposals)
		list = list[:maxProposals]
	}
	for _, text := range list {
		text = strings.ToLower(strings.TrimSpace(text))
		if text == "" {
			continue
		}
		if text == "default" {
			out = append(out, text)
			continue
		}
		out = append(out, d.proposal(place, protocol, text)...)
	}
	out = distinct(out)
	if len(out) == 0 && len(list) > 0 {
		d.note(place, "nothing is left of the proposals, so Martlet's own are offered; set the other side right")
	}
	return out
}

func (d *draft) proposal(place string, protocol suite.Protocol, text string) []string {
	if len(text) > maxProposal {
		d.note(place, "the proposal %s is too long and left out", quoted(text))
		return nil
	}
	var aead, mac, rest []string // words for proposals of either kind
	for word := range strings.SplitSeq(text, "-") {
		_, errMAC := suite.ParseProposal(protocol, inContext(protocol, false, word))
		_, errAEAD := suite.ParseProposal(protocol, inContext(protocol, true, word))
		switch {
		case errMAC != nil && errAEAD != nil:
			d.note(place, "%s is taken out of %s: Martlet does not offer it", quoted(word), quoted(text))
		case errMAC != nil:
			aead = append(aead, word)
		case errAEAD != nil:
			mac = append(mac, word)
		default:
			rest = append(rest, word)
		}
	}
	var out []string
	for _, kind := range [][]string{aead, mac} {
		if len(kind) == 0 {
			continue
		}
		made := strings.Join(append(slices.Clone(kind), rest...), "-")
		p, err := suite.ParseProposal(protocol, made)
		if err != nil {
			d.note(place, "%s is left out: %s", quoted(made), bare(err))
			continue
		}
		for _, weak := range p.Weak() {
			d.note(place, "%s is weak: %s", quoted(made), weak)
		}
		out = append(out, made)
	}
	if len(aead)+len(mac) == 0 {
		d.note(place, "%s is left out: it has no encryption that Martlet offers", quoted(text))
	}
	return out
}

// inContext is a proposal that is right exactly if word is, beside an AEAD or a cipher with a MAC.
func inContext(protocol suite.Protocol, aead bool, word string) string {
	switch {
	case aead && protocol == suite.ProtocolIKE:
		return "aes256gcm16-prfsha256-x25519-" + word
	case aead:
		return "aes256gcm16-x25519-" + word
	}
	return "aes256-sha256-x25519-" + word
}

// distinct drops repetitions.
func distinct(list []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, s := range list {
		if !seen[s] {
			out = append(out, s)
		}
		seen[s] = true
	}
	return out
}

// bare is the text of an error of package pki or suite without the package's name.
func bare(err error) string {
	text := err.Error()
	for _, pkg := range []string{"pki: ", "suite: "} {
		text = strings.ReplaceAll(text, pkg, "")
	}
	return shown(text)
}

// quoted shows a text of the profile.
func quoted(text string) string { return `"` + shown(text) + `"` }

// shown makes one line of a text of the profile, for people.
func shown(text string) string {
	if len(text) > maxShown {
		text = text[:maxShown] + "…"
	}
	return oneLine(text)
}

// oneLine replaces what is not printable, so that no profile writes lines of its own.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

func lastElement(name string) string {
	return name[strings.LastIndexAny(name, `/\`)+1:]
}

func extension(name string) string {
	if i := strings.LastIndexByte(name, '.'); i > strings.LastIndexAny(name, `/\`) {
		return name[i:]
	}
	return ""
}
