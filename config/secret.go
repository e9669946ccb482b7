package config

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"martlet/crypto/suite"
)

// Secret is a secret value. It prints as [redacted].
type Secret struct {
	Value  suite.Secret
	Source string // "in place", "file:…" or "env:…": what may be shown
}

// inPlace is the Source of a secret that stands in the configuration itself.
const inPlace = "in place"

// String returns [redacted].
func (s Secret) String() string { return s.Value.String() }

// GoString returns [redacted].
func (s Secret) GoString() string { return s.Value.GoString() }

// MarshalText returns [redacted].
func (s Secret) MarshalText() ([]byte, error) { return s.Value.MarshalText() }

// MarshalJSON returns "[redacted]".
func (s Secret) MarshalJSON() ([]byte, error) { return s.Value.MarshalJSON() }

// ParseSecret reads a secret as it stands in a file: the value itself, "file:PATH" (a
// relative PATH starts at dir) or "env:NAME", looked up by env. The value may be "0s" and
// base64, or "0x" and hex. One line end behind the value in a file is not part of
// it. A secret file that others may read or replace is refused, and so is a value
// with white space at an end, which is always a mistake of copying. No error shows
// the secret.
func ParseSecret(text, dir string, env func(string) (string, bool)) (Secret, error) {
	return parseSecret(fileReader{OwnFiles{}}, text, dir, env)
}

func parseSecret(files fileReader, text, dir string, env func(string) (string, bool)) (Secret, error) {
	s := Secret{Source: inPlace}
	octets := []byte(text)
	if path, ok := strings.CutPrefix(text, "file:"); ok {
		s.Source = text
		data, err := files.secret(path, dir)
		if err != nil {
			return Secret{}, err
		}
		octets = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	} else if name, ok := strings.CutPrefix(text, "env:"); ok {
		s.Source = text
		val, ok := "", false
		if env != nil {
			val, ok = env(name)
		}
		if !ok {
			return Secret{}, hinted(fmt.Sprintf("the environment has no variable %q", name), "export "+name+"=… before the start")
		}
		octets = []byte(val)
	}
	octets, err := decodeSecret(octets)
	if err != nil {
		return Secret{}, err
	}
	s.Value = octets
	return s, nil
}

// decodeSecret takes the encoding off a secret.
func decodeSecret(octets []byte) ([]byte, error) {
	if len(octets) == 0 {
		return nil, hinted("the secret is empty", "")
	}
	first, _ := utf8.DecodeRune(octets)
	last, _ := utf8.DecodeLastRune(octets)
	if unicode.IsSpace(first) || unicode.IsSpace(last) {
		return nil, hinted("the secret begins or ends with white space", "remove it; if it belongs to the secret, write the secret as base64 with 0s before it")
	}
	var decoded []byte
	var err error
	switch {
	case bytes.HasPrefix(octets, []byte("0s")):
		decoded, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(string(octets[2:]), "="))
		if err != nil {
			return nil, hinted("the secret behind 0s is not base64", "a secret that itself begins with 0s must be written as base64, too")
		}
	case bytes.HasPrefix(octets, []byte("0x")):
		decoded, err = hex.DecodeString(string(octets[2:]))
		if err != nil {
			return nil, hinted("the secret behind 0x is not hexadecimal", "a secret that itself begins with 0x must be written as base64 with 0s before it")
		}
	default:
		return octets, nil
	}
	if len(decoded) == 0 {
		return nil, hinted("the secret is empty", "")
	}
	return decoded, nil
}

// weakPSK says why a pre-shared key can be guessed by whoever recorded or attempted one
// handshake (CVE-2018-5389); empty if it can not. 128 bits are wanted.
func weakPSK(octets []byte) string {
	const want = 128
	seen := map[byte]bool{}
	var lower, upper, digit, other bool
	for _, c := range octets {
		seen[c] = true
		lower = lower || c >= 'a' && c <= 'z'
		upper = upper || c >= 'A' && c <= 'Z'
		digit = digit || c >= '0' && c <= '9'
		other = other || !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9')
	}
	// Tenths of a bit for each octet, if each was chosen at random among its kind.
	perOctet := 0
	switch {
	case other && !utf8.Valid(octets):
		perOctet = 80
	case other:
		perOctet = 64
	case upper && lower:
		perOctet = 58
	case (lower || upper) && digit:
		perOctet = 50
	case lower || upper:
		perOctet = 47
	case digit:
		perOctet = 33
	}
	bits := min(len(octets)*perOctet/10, len(seen)*16)
	switch {
	case len(octets) < 16:
		return fmt.Sprintf("the pre-shared key has %d octets and can be guessed offline; take 32 random ones, e.g. from `openssl rand -base64 32`", len(octets))
	case bits < want:
		return fmt.Sprintf("the pre-shared key has at most %d bits of randomness of %d wanted; take one from `openssl rand -base64 32`", bits, want)
	}
	return ""
}
