package profile

import (
	"encoding/base64"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"martlet/config"
	"martlet/crypto/pki"
)

// known is a secret of a file of secrets, and whose it is.
type known struct {
	place string
	ids   []string
	value []byte
}

// decodeSecret takes strongSwan's encodings off a secret: 0x and hexadecimal, 0s and base64.
func decodeSecret(text string) []byte {
	if digits, ok := strings.CutPrefix(text, "0x"); ok {
		if out, err := hex.DecodeString(strings.ReplaceAll(digits, "_", "")); err == nil {
			return out
		}
	}
	if digits, ok := strings.CutPrefix(text, "0s"); ok {
		if out, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(digits, "=")); err == nil {
			return out
		}
	}
	return []byte(text)
}

// sameID tells whether two texts are the same identity.
func sameID(a, b string) bool {
	if a == b {
		return true
	}
	x, err1 := pki.ParseIdentity(a)
	y, err2 := pki.ParseIdentity(b)
	return err1 == nil && err2 == nil && !x.IsZero() && x == y
}

// isAny tells whether an identity of a secret stands for everybody.
func isAny(id string) bool {
	parsed, err := pki.ParseIdentity(id)
	return err == nil && parsed.IsZero()
}

// find returns the secret that fits the identities of both sides best: the one with most of them,
// then one that is for anybody.
func find(all []known, ids ...string) *known {
	var best *known
	most := -1
	for i, s := range all {
		points := 0
		for _, id := range s.ids {
			switch {
			case isAny(id):
			case slices.ContainsFunc(ids, func(own string) bool { return own != "" && sameID(own, id) }):
				points++
			default:
				points = -1
			}
			if points < 0 {
				break
			}
		}
		if points > most {
			best, most = &all[i], points
		}
	}
	return best
}

// psk gives a connection the pre-shared key of its two sides. hosts are other names of the two
// than their identities: their addresses. Where we log in by EAP, our own secret is the password.
func (d *draft) psk(place string, c *config.Connection, all []known, hosts ...string) {
	secret := &c.Local.Secret
	if c.Local.Auth != "psk" {
		secret = &c.Peer.Secret
	}
	if s := find(all, append([]string{c.Local.ID, c.Peer.ID}, hosts...)...); s != nil && len(s.value) > 0 {
		*secret = d.secret("psk.txt", s.value)
		return
	}
	*secret = d.missingSecret(place, "psk.txt", "the pre-shared key")
}

// accounts makes users of the passwords of EAP, for a gateway.
func (d *draft) accounts(place string, all []known) {
	taken := map[string]bool{}
	for _, u := range d.Users {
		taken[u.Name] = true
	}
	had := len(d.Users) > 0
	for _, s := range all {
		for _, id := range s.ids {
			if isAny(id) || taken[id] || had || len(d.Users) == maxConnections {
				continue
			}
			taken[id] = true
			d.Users = append(d.Users, &config.User{Name: id, Password: d.secretOf("user-"+plainName(id)+".txt", s.value)})
		}
	}
	if len(d.Users) == 0 {
		d.need(place, "the users and their passwords are not in the profile: add [user.NAME] with a password for each")
	}
}

// secretOf is secret for what belongs to no connection.
func (d *draft) secretOf(name string, value []byte) config.Secret {
	now := d.now
	defer func() { d.now = now }()
	d.now = "martlet"
	return d.secret(name, value)
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
