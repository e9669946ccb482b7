package profile

import (
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"martlet/config"
)

// groupWords are the keywords of key exchange groups by IANA's numbers.
var groupWords = sync.OnceValue(func() map[int]string {
	return map[int]string{
		1: "modp768", 2: "modp1024", 5: "modp1536", 14: "modp2048", 15: "modp3072", 16: "modp4096", 17: "modp6144", 18: "modp8192",
		19: "ecp256", 20: "ecp384", 21: "ecp521", 31: "x25519", 32: "x448",
	}
})

// list splits a list at commas and blanks.
func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' })
}

// isYes reads strongSwan's truth values; what is none of them is otherwise.
func isYes(text string, otherwise bool) bool {
	switch strings.ToLower(text) {
	case "yes", "true", "1", "enabled", "always":
		return true
	case "no", "false", "0", "disabled", "never":
		return false
	}
	return otherwise
}

// duration reads a number of seconds, or of what its unit says: s, m, h or d. Zero is Never. It
// returns 0 for no text, and notes what it cannot read.
func (d *draft) duration(place, text string) config.Duration {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0
	}
	unit, number := time.Second, text
	for suffix, u := range map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			unit, number = u, rest
		}
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	switch {
	case err != nil || math.IsNaN(n) || n < 0 || n*float64(unit) > float64(1000*24*time.Hour):
		d.note(place, "%s is not carried over: it is no time, or none that anything lasts", quoted(text))
		return 0
	case n == 0:
		return config.Never
	}
	return max(config.Duration(n*float64(unit)), 1)
}

// lives sets how long an SA lives, if it can be replaced before it ends.
func (d *draft) lives(place string, lifetime *config.Duration, rekey, life config.Duration) {
	switch {
	case life == 0:
	case life > 0 && rekey > 0 && life < rekey+rekey/20:
		d.note(place, "not carried over: the SA would end before it could be replaced; the default is a tenth more than rekey")
	default:
		*lifetime = life
	}
}

// addresses carries over where a peer is: names and addresses as remote, prefixes and ranges as
// from.
func (d *draft) addresses(place string, c *config.Connection, all []string) {
	for _, text := range all {
		switch {
		case strings.HasPrefix(text, "%any"), text == "0.0.0.0", text == "::", text == "0.0.0.0/0", text == "::/0", text == "%group":
		case strings.ContainsAny(text, "/") || strings.Count(text, "-") == 1 && strings.ContainsAny(text[:1], "0123456789:") && !strings.ContainsFunc(text, isName):
			p, err := prefixes(text)
			if err != nil || len(p) > 100 {
				d.note(place, "%s is not carried over: it is no range of addresses", quoted(text))
				continue
			}
			c.From = append(c.From, p...)
		default:
			c.Remote = append(c.Remote, d.hosts(place, text)...)
		}
	}
	c.Remote = distinct(c.Remote)
}

// isName tells whether a letter is none of an address.
func isName(r rune) bool {
	return r >= 'g' && r <= 'z' || r >= 'G' && r <= 'Z' || r == '_'
}

// strict notes that a gateway whose name the profile leaves open must have the one that is called.
func (d *draft) strict(place string, c *config.Connection) {
	if c.Peer.Auth == "cert" && c.Peer.ID == "" && len(c.Peer.Cert) == 0 && len(c.Remote) == 1 {
		d.note(place, "changed: the profile takes any certificate of the CA; here it must have the name %s, or what id says", quoted(c.Remote[0]))
	}
	if c.Peer.Auth == "cert" && c.Peer.ID == "" && len(c.Peer.Cert) == 0 && len(c.Remote) > 1 {
		c.Peer.ID = c.Remote[0]
		d.note(place, "changed: the profile takes any certificate of the CA; here it must have the name of the first gateway")
	}
}

// everywhere tells whether a traffic selector is all addresses of a family.
func everywhere(text string) bool { return text == "0.0.0.0/0" || text == "::/0" }

// route sees that no tunnel takes the default route of this host by surprise: config wants to be
// told where no virtual address is requested.
func (d *draft) route(place string, c *config.Connection) {
	if len(c.Request) > 0 {
		return
	}
	for _, child := range c.Children {
		for _, ts := range child.Remote {
			if everywhere(ts) {
				c.Routes = config.Routes{None: true}
				d.note(place, "the tunnel takes everything, and no virtual address is requested: routes = \"none\" sends nothing into it; list there what shall go")
				return
			}
		}
	}
}
