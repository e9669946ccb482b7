package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"martlet/config"
	"martlet/crypto/pki"
)

// configKinds are what the texts of keys are, and the names of tables; all others are words.
var configKinds = map[string]string{
	"connection": kindConnection, "child": kindChild, "pool": kindPool, "user": kindUser, "eap_id": kindUser,
	"groups": kindGroup, "server": kindName, "proxy": kindName, "forward": kindName, "ppk": kindName,
	"id": kindIdentity, "eap_server": kindHost, "remote": kindHost, "redirect": kindHost, "nas_identifier": kindHost,
	"domains": kindHost, "search": kindHost, "tunnel": kindHost, "host": kindHost, "refuse": kindHost,
	"revocation_hosts": kindHost, "trust_anchors_for": kindHost,
	"cert": kindPath, "key": kindPath, "ca": kindPath, "crl": kindPath, "eap_ca": kindPath,
	"control": kindPath, "state": kindPath, "key_log": kindPath,
}

// config redacts a configuration that was read, in the form of a file without what is the default
// of Go. It learns every name, secret and certificate in it.
func (r *redactor) config(c *config.Config) string {
	var b strings.Builder
	r.table(&b, "", reflect.ValueOf(c).Elem())
	for _, w := range c.Warnings {
		fmt.Fprintf(&b, "# warning: %s: %s\n", r.key(w.Key), r.text(w.Text))
	}
	return b.String()
}

// faults redacts what is wrong with one that could not be read.
func (r *redactor) faults(err error) string {
	var all config.Errors
	if !errors.As(err, &all) {
		return r.text(err.Error()) + "\n"
	}
	var b strings.Builder
	for _, f := range all {
		fmt.Fprintf(&b, "%s:%d:%d: %s: %s\n", r.path(f.File), f.Line, f.Column, r.key(f.Key), r.text(f.Reason))
	}
	return b.String()
}

// table writes the keys of a table, and then the tables in it.
func (r *redactor) table(b *strings.Builder, path string, v reflect.Value) {
	if auth, ok := v.Interface().(config.Auth); ok {
		r.certificates(auth)
	}
	type inner struct {
		path string
		v    reflect.Value
	}
	var tables []inner
	var keys strings.Builder
	for i := range v.NumField() {
		key, at := v.Type().Field(i).Tag.Get("toml"), v.Field(i)
		if key == "" || key == "-" || at.IsZero() {
			continue
		}
		below := strings.TrimPrefix(path+"."+key, ".")
		switch value, ok := r.setting(key, at.Interface()); {
		case ok:
			fmt.Fprintf(&keys, "%s = %s\n", key, value)
		case at.Kind() == reflect.Map:
			names := slices.Sorted(maps.Keys(asNames(at)))
			for _, name := range names {
				tables = append(tables, inner{below + "." + r.is(configKinds[key], name), at.MapIndex(reflect.ValueOf(name)).Elem()})
			}
		case at.Kind() == reflect.Struct:
			tables = append(tables, inner{below, at})
		}
	}
	if keys.Len() > 0 {
		fmt.Fprintf(b, "[%s]\n%s", path, &keys)
	}
	for _, t := range tables {
		r.table(b, t.path, t.v)
	}
}

func asNames(m reflect.Value) map[string]bool {
	names := map[string]bool{}
	for _, key := range m.MapKeys() {
		names[key.String()] = true
	}
	return names
}

// setting redacts the value of a key; false for a table.
func (r *redactor) setting(key string, v any) (string, bool) {
	switch v := v.(type) {
	case config.Secret:
		r.secret(v.Value)
		source, rest, ok := strings.Cut(v.Source, ":")
		if ok && rest != "" {
			return strconv.Quote(source + ":" + r.is(kindPath, rest)), true
		}
		return strconv.Quote(secretPlaceholder), true
	case bool, int, uint16, uint32, uint64:
		return fmt.Sprint(v), true
	case config.Duration:
		return strconv.Quote(time.Duration(v).String()), true
	case netip.Addr:
		return strconv.Quote(r.address(v)), true
	case []netip.Addr:
		return quotedList(v, r.address), true
	case []netip.Prefix:
		return quotedList(v, r.prefix), true
	case config.Routes:
		if v.List != nil {
			return quotedList(v.List, r.prefix), true
		}
		return map[bool]string{true: `"selectors"`, false: `"none"`}[v.Selectors], true
	case []string:
		return quotedList(v, func(text string) string { return r.said(key, text) }), true
	}
	if s := reflect.ValueOf(v); s.Kind() == reflect.String {
		return strconv.Quote(r.said(key, s.String())), true
	}
	return "", false
}

// said redacts a text of a key.
func (r *redactor) said(key, text string) string {
	kind, ok := configKinds[key]
	path, inFile := strings.CutPrefix(text, "file:")
	switch {
	case !ok, key == "remote" && (strings.ContainsAny(text, "[/") || text == "dynamic"): // a selector
		return r.text(text)
	case kind == kindPath && inFile:
		return "file:" + r.path(path)
	}
	return r.is(kind, text)
}

func quotedList[T any](values []T, redacted func(T) string) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = strconv.Quote(redacted(v))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// certificates learns the names in certificates, which logs and errors have.
func (r *redactor) certificates(a config.Auth) {
	var all []*x509.Certificate
	for _, c := range a.Credentials {
		all = append(append(all, c.Cert, c.Root), c.Chain...)
	}
	for _, v := range []pki.Verifier{a.Verifier, a.EAPVerifier} {
		all = append(all, v.Roots...)
	}
	for _, cert := range all {
		if cert == nil {
			continue
		}
		r.subject(cert.Subject.String())
		r.subject(cert.Issuer.String())
		for _, name := range slices.Concat(cert.DNSNames, cert.EmailAddresses) {
			r.identity(name)
		}
		for _, ip := range cert.IPAddresses {
			if addr, ok := netip.AddrFromSlice(ip); ok {
				r.address(addr.Unmap())
			}
		}
	}
}
