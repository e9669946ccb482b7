package profile

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// ipsecSecrets is an ipsec.secrets with the keys that it names.
type ipsecSecrets struct {
	psk, eap []known
	keys     keys
}

// readIPsecSecrets reads ipsec.secrets beside the profile, if it is there. Private keys stand in
// folder.
func (d *draft) readIPsecSecrets(folder string) (*ipsecSecrets, error) {
	s := &ipsecSecrets{}
	const name = "ipsec.secrets"
	data, err := d.read(name)
	if err != nil {
		d.note(name, "is not carried over: %s", plainError(err))
		return s, nil
	}
	var open []string
	var read func(name string, data []byte) error
	read = func(name string, data []byte) error {
		var entry []string
		begun := 0
		end := func() {
			d.ipsecSecret(s, folder, fmt.Sprintf("%s:%d", shown(name), begun), entry)
			entry = nil
		}
		for i, line := range strings.Split(string(data), "\n") {
			words := secretWords(line)
			if len(words) == 0 {
				continue
			}
			if !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "\t") {
				end()
				begun = i + 1
				if words[0] == "include" && len(words) == 2 {
					if err := d.included(fmt.Sprintf("%s:%d", shown(name), begun), words[1], &open, read); err != nil {
						return err
					}
					continue
				}
			}
			if len(entry) < 1000 {
				entry = append(entry, words...)
			}
		}
		end()
		return nil
	}
	return s, read(name, data)
}

// secretWords splits a line at blanks, but not within quotes, and up to a comment.
func secretWords(line string) []string {
	var out []string
	for {
		line = strings.TrimLeft(line, " \t\r{}")
		if line == "" || line[0] == '#' {
			return out
		}
		if line[0] == '"' || line[0] == '\'' {
			word, rest, ok := strings.Cut(line[1:], line[:1])
			if ok {
				out, line = append(out, word), rest
				continue
			}
		}
		i := strings.IndexAny(line, " \t\r")
		if i < 0 {
			i = len(line)
		}
		out, line = append(out, line[:i]), line[i:]
	}
}

// ipsecSecret takes one entry: whose it is, a colon, its kind, and the secret.
func (d *draft) ipsecSecret(s *ipsecSecrets, folder, place string, entry []string) {
	if len(entry) == 0 {
		return
	}
	i := slices.Index(entry, ":")
	if i < 0 {
		// Some write "moon: PSK", and some ":PSK".
		for n, word := range entry {
			if rest, ok := strings.CutSuffix(word, ":"); ok && rest != "" {
				entry, i = slices.Replace(entry, n, n+1, rest, ":"), n+1
				break
			}
			if rest, ok := strings.CutPrefix(word, ":"); ok && rest != "" {
				entry, i = slices.Replace(entry, n, n+1, ":", rest), n
				break
			}
		}
	}
	if i < 0 || len(entry) < i+2 {
		d.note(place, "the entry is not understood")
		return
	}
	ids, kind, values := entry[:i], strings.ToUpper(entry[i+1]), entry[i+2:]
	if len(values) == 0 {
		d.note(place, "the entry is not understood")
		return
	}
	one := known{place: place, ids: ids, value: decodeSecret(values[0])}
	switch kind {
	case "PSK":
		s.psk = append(s.psk, one)
	case "EAP":
		s.eap = append(s.eap, one)
	case "RSA", "ECDSA", "PKCS8", "P12", "BLISS":
		name := values[0]
		if !path.IsAbs(name) {
			name = path.Join(folder, name)
		}
		var passwords [][]byte
		if len(values) > 1 && values[1] != "%prompt" {
			passwords = [][]byte{decodeSecret(values[1])}
		}
		if err := d.loadKey(&s.keys, name, passwords); err != nil {
			d.note(place, "the key is not carried over: %s", bare(err))
		}
	case "XAUTH":
		d.note(place, "not carried over: XAuth is of IKEv1")
	case "PIN", "NTLM", "PPKS", "PPK":
		d.note(place, "not carried over: Martlet takes no secrets of the kind %s from here", kind)
	default:
		d.note(place, "the entry is not understood")
	}
}
