package profile

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
)

// presetReader takes keys out of the table of a preset's file. What is left was not known.
type presetReader struct {
	file, table string
	all         map[string]any
	known       []string
	err         *Error // the first fault
}

// ParsePreset reads the file of a preset. Unknown keys and wrong values are faults; the error is
// an *Error that tells file, key and what to do.
func ParsePreset(name string, data []byte) (Preset, error) {
	r := &presetReader{file: name}
	if len(data) > maxPreset {
		return Preset{}, &Error{"preset " + quoted(name) + " is too large", fmt.Sprintf("it has more than %d octets", maxPreset), ""}
	}
	if err := toml.Unmarshal(data, &r.all); err != nil {
		what := "preset " + quoted(name) + " cannot be read"
		if d, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, column := d.Position()
			what = fmt.Sprintf("preset %s, line %d:%d, cannot be read", quoted(name), line, column)
		}
		return Preset{}, &Error{what, shown(strings.TrimPrefix(err.Error(), "toml: ")), "it is TOML: key = \"value\""}
	}
	p := Preset{
		Name: strings.TrimSuffix(name, ".toml"), Title: r.must("title"), VerifiedOn: r.must("verified_on"), VerifiedBy: r.must("verified_by"),
		Host: strings.ToLower(r.must("host")), FindHost: r.text("find_host"), RemoteID: r.must("remote_id"), Auth: r.must("auth"), Login: r.text("login"),
		Proposals: r.texts("proposals"), ChildProposals: r.texts("child_proposals"), Request: r.texts("request"), Notes: r.texts("notes"),
	}
	if sub := r.sub("ca"); sub != nil {
		p.CA = CA{Subject: sub.text("subject"), SHA256: strings.ToUpper(sub.must("sha256")), URLs: sub.texts("urls")}
		sub.rest()
		if r.err == nil {
			r.err = sub.err
		}
	}
	r.rest()
	r.check(p)
	if r.err != nil {
		return Preset{}, r.err
	}
	return p, nil
}

// fault notes the first fault.
func (r *presetReader) fault(key, why, hint string) {
	if r.err == nil {
		r.err = &Error{"preset " + quoted(r.file) + ", key " + shown(r.table+key), why, hint}
	}
}

func (r *presetReader) get(key string) any {
	r.known = append(r.known, key)
	return r.all[key]
}

// text is a string on one line, empty if it is not there.
func (r *presetReader) text(key string) string {
	v := r.get(key)
	text, ok := v.(string)
	switch {
	case v == nil:
	case !ok:
		r.fault(key, "it is no text", key+" = \"…\"")
	case text != oneLine(text) || strings.TrimSpace(text) != text || text == "":
		r.fault(key, "it is empty, or has line ends, or white space around", "write it on one line, or leave it out")
	}
	return text
}

// must is text that must be there.
func (r *presetReader) must(key string) string {
	text := r.text(key)
	if text == "" {
		r.fault(key, "it is missing", key+" = \"…\"")
	}
	return text
}

// texts is a list of text, empty if it is not there.
func (r *presetReader) texts(key string) []string {
	v := r.get(key)
	list, ok := v.([]any)
	if v != nil && (!ok || len(list) == 0 || len(list) > maxProposals) {
		r.fault(key, "it is no list with something in it", key+" = [\"…\"], or leave it out")
		return nil
	}
	var out []string
	for _, element := range list {
		one := presetReader{file: r.file, table: r.table, all: map[string]any{key: element}}
		out = append(out, one.text(key))
		if r.err == nil {
			r.err = one.err
		}
	}
	return out
}

// sub is a table in the table, nil if it is not there.
func (r *presetReader) sub(key string) *presetReader {
	v := r.get(key)
	all, ok := v.(map[string]any)
	if v != nil && !ok {
		r.fault(key, "it is no table", "["+key+"]")
	}
	if !ok {
		return nil
	}
	return &presetReader{file: r.file, table: key + ".", all: all}
}

// rest finds the keys that nobody asked for.
func (r *presetReader) rest() {
	for _, key := range slices.Sorted(maps.Keys(r.all)) {
		if !slices.Contains(r.known, key) {
			r.fault(key, "it is not known", "known are: "+strings.Join(r.known, ", "))
		}
	}
}

// presetAuths are the ways to log in that a preset may have: those of an account with a password.
var presetAuths = []string{"eap", "eap-mschapv2", "eap-peap", "eap-ttls"}

// check looks at the values.
func (r *presetReader) check(p Preset) {
	if plainName(p.Name) != p.Name || p.Name == "" || p.Name == r.file {
		r.fault("", "the file's name is no name of a preset", "letters, digits, - and _, and .toml behind, as in example.toml")
	}
	if _, err := time.Parse(time.DateOnly, p.VerifiedOn); err != nil {
		r.fault("verified_on", quoted(p.VerifiedOn)+" is no day", "verified_on = \"2026-12-01\"")
	}
	if host := strings.TrimPrefix(p.Host, "*."); !strings.Contains(host, ".") || len(newDraft("", Options{}).hosts("", host)) == 0 || strings.HasPrefix(host, ".") {
		r.fault("host", quoted(p.Host)+" is neither a host name nor \"*.\" and one of two labels or more", "host = \"*.vpn.example.com\"")
	}
	if _, err := pki.ParseIdentity(strings.ReplaceAll(p.RemoteID, "{host}", "vpn.example.com")); err != nil {
		r.fault("remote_id", bare(err), "remote_id = \"{host}\"")
	}
	if !slices.Contains(presetAuths, p.Auth) {
		r.fault("auth", "unknown method "+quoted(p.Auth), strings.Join(presetAuths, ", "))
	}
	for _, list := range []struct {
		key      string
		protocol suite.Protocol
		words    []string
	}{{"proposals", suite.ProtocolIKE, p.Proposals}, {"child_proposals", suite.ProtocolESP, p.ChildProposals}} {
		for _, text := range list.words {
			if _, err := suite.ParseProposal(list.protocol, text); err != nil && text != "default" {
				r.fault(list.key, bare(err), list.key+" = [\"aes256-sha256-modp2048\"]")
			}
		}
	}
	if len(p.Request) == 0 || slices.ContainsFunc(p.Request, func(f string) bool { return f != "ipv4" && f != "ipv6" }) || len(distinct(p.Request)) != len(p.Request) {
		r.fault("request", "it names the families of the addresses that the gateways have", "request = [\"ipv4\"]")
	}
	if p.CA.SHA256 == "" {
		return
	}
	if sum, err := hex.DecodeString(p.CA.SHA256); err != nil || len(sum) != 32 {
		r.fault("ca.sha256", "it is no SHA-256 in hexadecimal", "openssl x509 -in FILE -outform der | sha256sum")
	}
	for _, text := range p.CA.URLs {
		if u, err := url.Parse(text); err != nil || u.Scheme != "https" || u.Host == "" {
			r.fault("ca.urls", quoted(text)+" is no address with https://", "urls = [\"https://example.com/ca.pem\"]")
		}
	}
	if len(p.CA.URLs) == 0 {
		r.fault("ca.urls", "it is missing", "say where the certificate can be had")
	}
}
