package profile

import (
	"bytes"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"martlet/config"
	"martlet/crypto/suite"
)

// swanctlSection begins a section that only swanctl.conf has, and its including line.
var (
	swanctlSection = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?m)^\s*(connections|secrets|pools|authorities)\s*(:[^{\n]*)?\{`)
	})
	swanctlInclude = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^\s*include\s+\S*conf\.d/`) })
)

func swanctlFormat() format {
	return format{"strongSwan swanctl.conf", func(data []byte) bool {
		return !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) && (swanctlSection().Match(data) || swanctlInclude().Match(data))
	}, readSwanctl}
}

// swanctl is a swanctl.conf, with the secrets and certificates in the folders beside it.
type swanctl struct {
	*draft
	root      *settings
	secrets   map[string][]known      // by kind: "ike", "eap", "ppk"
	resolvers map[string][]netip.Addr // of pools
	keys
}

func readSwanctl(d *draft, data []byte) error {
	root, err := d.readSettings(data)
	if err != nil {
		return err
	}
	s := &swanctl{draft: d, root: root, secrets: map[string][]known{}}
	s.readSecrets(root.section("secrets"))
	s.pools(root.section("pools"))
	for _, name := range root.section("connections").order {
		s.connection(name, root.section("connections").section(name))
	}
	for _, name := range root.section("authorities").order {
		s.note("authorities."+name, "not carried over: the CAs of a connection stand in its ca, and its revocation lists in crl")
	}
	// Other sections are templates, to which the others refer.
	return nil
}

// swanctlWithout are keys of a connection that have no counterpart, and why.
func swanctlWithout() map[string]string {
	return map[string]string{
		"local_addrs": "not carried over: listen in [node] has the addresses of this host", "dscp": "not carried over: IKE has DSCP 0",
		"keyingtries": "not carried over: a connection with keep = \"up\" is tried for ever", "pull": "not carried over: it is about IKEv1",
		"aggressive": "not carried over: it is about IKEv1", "dpd_timeout": "not carried over: it is about IKEv1; with IKEv2 retransmission tells",
		"send_certreq": "not carried over: the CAs that are trusted are always told", "send_cert": "not carried over: the certificate is always sent",
		"rand_time": "not carried over: rekeying is spread over a tenth of its time by itself", "ocsp": "not carried over: revocation in the peer's table says what is asked",
		"if_id_in": kernelNote, "if_id_out": kernelNote,
		"mediation": "not carried over: there is no mediation", "mediated_by": "not carried over: there is no mediation", "mediation_peer": "not carried over: there is no mediation",
	}
}

const kernelNote = "not carried over: it is an option of the kernel's IPsec, which Martlet does not use"

// connection carries over one connection.
func (s *swanctl) connection(name string, in *settings) {
	v := in.values
	if v["version"] == "1" {
		s.note(in.at("version"), "%s is left out: it is IKEv1, and Martlet speaks IKEv2", quoted(name))
		return
	}
	c := s.draft.connection(name)
	s.addresses(in.at("remote_addrs"), c, list(v["remote_addrs"]))
	if port := s.port(in.at("remote_port"), v["remote_port"]); port != 500 && len(c.Remote) > 0 {
		c.Port = port
	}
	if port := s.port(in.at("local_port"), v["local_port"]); port != 500 && port != 4500 && len(c.Remote) > 0 {
		c.LocalPort = port
	}
	c.Proposals = s.proposals(in.at("proposals"), suite.ProtocolIKE, list(v["proposals"]))
	s.virtual(in, c)
	if c.NoMOBIKE = !isYes(v["mobike"], true); v["fragmentation"] == "no" {
		c.FragmentSize = -1
	}
	if v["encap"] == "no" {
		s.note(in.at("encap"), "not carried over: ESP is always in UDP")
	}
	c.Liveness = s.duration(in.at("dpd_delay"), v["dpd_delay"])
	c.Rekey, c.Reauth = s.duration(in.at("rekey_time"), v["rekey_time"]), max(s.duration(in.at("reauth_time"), v["reauth_time"]), 0)
	if over := s.duration(in.at("over_time"), v["over_time"]); over > 0 && c.Rekey > 0 {
		s.lives(in.at("over_time"), &c.Lifetime, c.Rekey, c.Rekey+over)
	}
	switch v["unique"] {
	case "", "no":
	case "never", "keep", "replace":
		c.Unique = v["unique"]
	default:
		s.note(in.at("unique"), "%s is not known", quoted(v["unique"]))
	}
	if slices.Contains([]string{"allow", "prefer", "force", "never"}, v["childless"]) {
		c.Childless = v["childless"]
	}
	s.ppk(in, c)
	for _, child := range in.section("children").order {
		s.child(c, child, in.section("children").section(child))
	}
	if len(c.Children) == 0 && len(in.section("children").order) > 0 {
		s.note(in.place, "left out: none of its children can be carried over")
		return
	}
	if !s.auths(in, c) {
		return
	}
	s.keeps(in, c)
	s.route(in.place, c)
	s.strict(in.at("remote.id"), c)
	s.rest(in, swanctlWithout(), "version", "remote_addrs", "remote_port", "local_port", "proposals", "vips", "mobike", "fragmentation", "encap", "dpd_delay",
		"rekey_time", "reauth_time", "over_time", "unique", "childless", "ppk_id", "ppk_required", "pools")
	s.keep(c)
}

// rest notes the keys of a section that were not carried over.
func (s *swanctl) rest(in *settings, why map[string]string, carried ...string) {
	for _, k := range slices.Sorted(maps.Keys(in.values)) {
		switch {
		case slices.Contains(carried, k):
		case why[k] != "":
			s.note(in.at(k), "%s", why[k])
		default:
			s.note(in.at(k), "not carried over: Martlet has no such thing")
		}
	}
}

func (d *draft) port(place, text string) uint16 {
	if text == "" || text == "0" || text == "%any" {
		return 500
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		d.note(place, "%s is no port", quoted(text))
		return 500
	}
	return uint16(n)
}

// virtual carries over the virtual addresses that are requested or handed out.
func (s *swanctl) virtual(in *settings, c *config.Connection) {
	for _, text := range list(in.values["vips"]) {
		family := "ipv4"
		if strings.Contains(text, ":") || text == "%config6" {
			family = "ipv6"
		}
		if p, err := prefixes(text); err == nil && !p[0].Addr().IsUnspecified() {
			s.note(in.at("vips"), "%s is not carried over: the gateway chooses the address", quoted(text))
		}
		if len(c.Remote) > 0 && !slices.Contains(c.Request, family) {
			c.Request = append(c.Request, family)
		}
	}
	for _, name := range list(in.values["pools"]) {
		i := slices.IndexFunc(s.Pools, func(p *config.Pool) bool { return p.Name == name })
		switch {
		case i < 0 && (name == "radius" || name == "dhcp"):
			s.note(in.at("pools"), "%s is not carried over: with \"eap-radius\" the server may tell addresses by itself, and there is no DHCP", quoted(name))
		case i < 0:
			s.note(in.at("pools"), "there is no pool %s in the profile", quoted(name))
		case len(c.Request) > 0:
			s.note(in.at("pools"), "not carried over: who requests addresses hands none out")
		default:
			c.Pool = append(c.Pool, name)
			c.DNS = append(c.DNS, s.resolvers[name]...)
		}
	}
	slices.SortFunc(c.DNS, compareAddr)
	c.DNS = slices.Compact(c.DNS)
}

// ppk carries over a post-quantum pre-shared key.
func (s *swanctl) ppk(in *settings, c *config.Connection) {
	id := in.values["ppk_id"]
	if id == "" {
		return
	}
	c.PPKRequired = isYes(in.values["ppk_required"], false)
	for _, secret := range s.secrets["ppk"] {
		if slices.Contains(secret.ids, id) || len(secret.ids) == 0 {
			c.PPKs = map[string]*config.PPK{id: {Secret: s.secret("ppk.txt", secret.value)}}
			return
		}
	}
	c.PPKs = map[string]*config.PPK{id: {Secret: s.missingSecret(in.at("ppk_id"), "ppk.txt", "the post-quantum pre-shared key "+quoted(id))}}
}
