package profile

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"martlet/config"
	"martlet/crypto/pki"
)

// finish checks what was read by config's own rules. A connection that they do not take is left
// out with a note that tells the fault; so what is written always loads.
func (d *draft) finish() (*Imported, error) {
	for {
		bad := d.faulty()
		if len(bad) == 0 {
			break
		}
		d.Users = slices.DeleteFunc(d.Users, func(u *config.User) bool { return bad[pathOf("user", u.Name)] })
		d.Pools = slices.DeleteFunc(d.Pools, func(p *config.Pool) bool { return bad[pathOf("pool", p.Name)] })
		d.Connections = slices.DeleteFunc(d.Connections, func(c *config.Connection) bool { return bad[pathOf("connection", c.Name)] })
	}
	if len(d.Connections) > 0 {
		return d.Imported, nil
	}
	e := &Error{What: d.Format + ": there is no connection that Martlet could have", Hint: "mend in the file what stands above; only IKEv2 connections in tunnel mode can be imported"}
	var why []string
	for _, n := range d.Notes[:min(len(d.Notes), 5)] {
		why = append(why, n.String())
	}
	e.Why = strings.Join(why, "; ")
	return nil, e
}

// faulty returns the tables that config finds faults with, and notes the first fault of each.
// What is missing by a note of its own is no fault.
func (d *draft) faulty() map[string]bool {
	all := &config.Config{Connections: map[string]*config.Connection{}, Users: map[string]*config.User{}, Pools: map[string]*config.Pool{}}
	tables := map[string]bool{} // whether what is missing is known
	for _, u := range d.Users {
		one := *u
		stand(&one.Password)
		all.Users[u.Name], tables[pathOf("user", u.Name)] = &one, false
	}
	for _, p := range d.Pools {
		one := *p
		all.Pools[p.Name], tables[pathOf("pool", p.Name)] = &one, false
	}
	for _, c := range d.Connections {
		all.Connections[c.Name], tables[pathOf("connection", c.Name)] = d.copy(c), d.needed[c.Name]
	}
	faults, _ := errors.AsType[config.Errors](all.Complete())
	bad := map[string]bool{}
	for _, f := range faults {
		for table, known := range tables {
			if f.Key != table && !strings.HasPrefix(f.Key, table+".") || known && isMissing(f.Reason) || bad[table] {
				continue
			}
			bad[table] = true
			d.note(table, "left out, since Martlet would not take it: %s: %s", shown(f.Key), shown(f.Reason))
		}
	}
	return bad
}

// pathOf is how config calls a table in its faults.
func pathOf(kind, name string) string {
	if key(name) == name {
		return kind + "." + name
	}
	return kind + "." + strconv.Quote(name)
}

// isMissing tells whether a fault is that a key lacks, or users or a server do.
func isMissing(reason string) bool {
	return strings.Contains(reason, "is missing") || strings.Contains(reason, "there are no users") || strings.Contains(reason, "there is no server")
}

// copy is a connection for config to complete: it fills in what it finds missing, and that shall
// not be written. Certificates are those of nobody, for files that stay where they are must not be
// read here; what they hold was checked where they were read.
func (d *draft) copy(c *config.Connection) *config.Connection {
	out := *c
	out.Children = map[string]*config.Child{}
	for name, child := range c.Children {
		one := *child
		out.Children[name] = &one
	}
	out.PPKs = map[string]*config.PPK{}
	for name, ppk := range c.PPKs {
		one := *ppk
		out.PPKs[name] = &one
	}
	if len(out.PPKs) == 0 {
		out.PPKs = nil
	}
	for _, a := range []*config.Auth{&out.Local, &out.Local2} {
		if len(a.Cert) > 0 {
			key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
			a.Credentials = []*pki.Credential{{Key: key}}
			if a.ID == "" {
				a.ID = "nobody.example"
			}
		}
		nobody(&a.EAPVerifier, a.EAPCA)
	}
	for _, a := range []*config.Auth{&out.Peer, &out.Peer2} {
		if len(a.Cert) > 0 && a.ID == "" {
			a.ID = "nobody.example"
		}
		nobody(&a.Verifier, slices.Concat(a.CA, a.Cert))
		a.CRL = nil
	}
	for _, s := range []*config.Secret{&out.Local.Secret, &out.Peer.Secret, &out.Local2.Secret, &out.Peer2.Secret, &out.Local.KeyPassword, &out.Local2.KeyPassword} {
		stand(s)
	}
	for _, p := range out.PPKs {
		stand(&p.Secret)
	}
	return &out
}

// nobody stands for the certificates in files.
func nobody(v *pki.Verifier, files []string) {
	switch {
	case slices.Equal(files, []string{system}):
		v.SystemRoots = true
	case len(files) > 0:
		v.Roots = []*x509.Certificate{{NotAfter: time.Now().Add(time.Hour)}}
	}
}

// stand gives a secret that somebody has yet to write a value.
func stand(s *config.Secret) {
	if s.Source != "" && len(s.Value) == 0 {
		s.Value = []byte("a secret that is not known yet")
	}
}
