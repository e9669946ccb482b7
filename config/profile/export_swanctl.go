package profile

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"martlet/config"
	"martlet/crypto/pki"
)

// section is one of swanctl.conf.
type section struct {
	name  string
	lines []string
	subs  []*section
}

// set adds a key, unless it has no value.
func (s *section) set(key, value string) {
	if value != "" {
		s.lines = append(s.lines, key+" = "+quoteSettings(value))
	}
}

func (s *section) sub(name string) *section {
	sub := &section{name: name}
	s.subs = append(s.subs, sub)
	return sub
}

func (s *section) write(b *strings.Builder, indent string) {
	fmt.Fprintf(b, "%s%s {\n", indent, s.name)
	for _, l := range s.lines {
		b.WriteString(indent + "\t" + l + "\n")
	}
	for _, sub := range s.subs {
		sub.write(b, indent+"\t")
	}
	b.WriteString(indent + "}\n")
}

// quoteSettings writes a value of strongSwan's settings: within quotes a backslash takes the
// meaning of the next character away, or gives it one.
func quoteSettings(value string) string {
	if !strings.ContainsFunc(value, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.:/,%@[]", r)
	}) {
		return value
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(value) + `"`
}

// base64Secret is a secret in a form in which no octet has a meaning.
func base64Secret(value []byte) string {
	if len(value) == 0 {
		return ""
	}
	return "0s" + base64.StdEncoding.EncodeToString(value)
}

// yesNo is how strongSwan writes a truth value.
func yesNo(v bool) string {
	if v {
		return "yes"
	}
	return "no"
}

// seconds writes a duration for strongSwan, which has 0 for never.
func seconds(d config.Duration) string {
	if d <= 0 {
		return "0s"
	}
	return fmt.Sprintf("%ds", (time.Duration(d)+time.Second-1)/time.Second)
}

// writeSwanctl writes a file for /etc/swanctl/conf.d.
func writeSwanctl(x *exporter) error {
	c := x.c
	connections, secrets := &section{name: "connections"}, &section{name: "secrets"}
	s := connections.sub(x.base)
	s.set("version", "2")
	s.set("remote_addrs", strings.Join(c.Remote, ","))
	x.swanctlConnection(s)
	if err := x.swanctlAuth(s, secrets); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.PPKs)) {
		s.set("ppk_id", name)
		s.set("ppk_required", yesNo(c.PPKRequired))
		x.carry("ppk_required")
		secret := secrets.sub("ppk-" + x.base)
		secret.set("id", name)
		secret.set("secret", base64Secret(x.secret("ppk", "the post-quantum pre-shared key", c.PPKs[name].Secret, true)))
	}
	children := s.sub("children")
	for _, name := range slices.Sorted(maps.Keys(c.Children)) {
		x.swanctlChild(children.sub(cmp.Or(plainName(name), "net")), c.Children[name])
	}
	var b strings.Builder
	b.WriteString("# Connection " + x.c.Name + ", made by Martlet.\n")
	connections.write(&b, "")
	secrets.write(&b, "")
	x.main(".conf", []byte(b.String()))
	x.note("", "%s belongs in /etc/swanctl/conf.d: swanctl --load-all then reads it", x.Main)
	return nil
}

// swanctlConnection is what concerns the IKE SA.
func (x *exporter) swanctlConnection(s *section) {
	c := x.c
	x.carry("local_port", "request", "no_mobike", "liveness", "rekey", "reauth", "unique", "childless", "keep")
	if c.Port != 0 {
		s.set("remote_port", fmt.Sprint(c.Port))
	}
	switch {
	case c.LocalPort != 0:
		s.set("local_port", fmt.Sprint(c.LocalPort))
	case c.Port != 0:
		// Messages have the marker of ESP in UDP only where neither port is 500.
		s.set("local_port", "4500")
	}
	s.set("proposals", strings.Join(x.keywords("proposals", c.Proposals, c.IKE), ","))
	var vips []string
	for _, family := range c.Request {
		vips = append(vips, map[string]string{"ipv4": "0.0.0.0", "ipv6": "::"}[family])
	}
	s.set("vips", strings.Join(vips, ","))
	s.set("encap", "yes") // Martlet's ESP is always in UDP
	s.set("mobike", yesNo(!c.NoMOBIKE))
	if c.FragmentSize < 0 {
		x.carry("fragment_size")
		s.set("fragmentation", "no")
	}
	s.set("dpd_delay", seconds(c.Liveness))
	s.set("rekey_time", seconds(c.Rekey))
	if c.Lifetime > c.Rekey && c.Rekey > 0 {
		x.carry("lifetime")
		s.set("over_time", seconds(c.Lifetime-c.Rekey))
	}
	s.set("reauth_time", seconds(c.Reauth))
	if c.Unique != "contact" {
		s.set("unique", c.Unique)
	}
	s.set("childless", c.Childless)
}

// swanctlChild is one child.
func (x *exporter) swanctlChild(s *section, child *config.Child) {
	x.carry("child.local", "child.remote", "child.rekey", "child.rekey_bytes", "child.rekey_packets", "child.tfc", "child.replay_window", "child.copy_dscp", "child.keep")
	s.set("local_ts", strings.Join(child.Local, ","))
	s.set("remote_ts", strings.Join(child.Remote, ","))
	s.set("esp_proposals", strings.Join(x.keywords("child.proposals", child.Proposals, child.ESP), ","))
	s.set("rekey_time", seconds(child.Rekey))
	if child.Lifetime > 0 {
		x.carry("child.lifetime")
		s.set("life_time", seconds(child.Lifetime))
	}
	if child.RekeyBytes > 0 {
		s.set("rekey_bytes", fmt.Sprint(child.RekeyBytes))
	}
	if child.RekeyPackets > 0 {
		s.set("rekey_packets", fmt.Sprint(child.RekeyPackets))
	}
	switch {
	case child.TFC < 0:
		s.set("tfc_padding", "mtu")
	case child.TFC > 0:
		s.set("tfc_padding", fmt.Sprint(child.TFC))
	}
	s.set("replay_window", fmt.Sprint(child.ReplayWindow))
	s.set("copy_dscp", map[bool]string{true: "out", false: "no"}[child.CopyDSCP])
	switch cmp.Or(child.Keep, x.c.Keep) {
	case config.KeepManual:
	case config.KeepUp:
		s.set("start_action", "start")
		s.set("dpd_action", "restart")
		s.set("close_action", "start")
	case config.KeepOnDemand:
		s.set("start_action", "trap")
		s.set("dpd_action", "trap")
		s.set("close_action", "trap")
	}
}

// swanctlAuth is how the two sides prove who they are.
func (x *exporter) swanctlAuth(s, secrets *section) error {
	c := x.c
	local := s.sub("local")
	if err := x.swanctlLocal(local, secrets, "local.", &c.Local); err != nil {
		return err
	}
	if c.Local2.IsSet() {
		second := s.sub("local2")
		local.set("round", "1")
		second.set("round", "2")
		if err := x.swanctlLocal(second, secrets, "local2.", &c.Local2); err != nil {
			return err
		}
	}
	remote := s.sub("remote")
	x.carry("peer.id", "eap_only")
	remote.set("id", grammarID(c.Peer.ID, c.Peer.Identity))
	switch {
	case c.Peer.Auth == "psk":
		remote.set("auth", "psk")
	case c.Peer.Auth == "cert":
		remote.set("auth", "pubkey")
	default:
		remote.set("auth", c.Local.Auth)
	}
	if c.Local.Auth == "psk" || c.Peer.Auth == "psk" {
		secret, value := secrets.sub("ike-"+x.base), c.Peer.Secret
		if c.Local.Auth == "psk" {
			value = c.Local.Secret
		}
		for i, id := range []string{grammarID(c.Local.ID, c.Local.Identity), grammarID(c.Peer.ID, c.Peer.Identity)} {
			secret.set(fmt.Sprintf("id-%d", i+1), id)
		}
		secret.set("secret", base64Secret(x.secret("peer.secret", "the pre-shared key", value, true)))
		if c.Local.Auth == "psk" {
			x.carry("local.secret")
		}
	}
	pinned, err := x.pinned()
	if err != nil {
		return err
	}
	if pinned != nil {
		name := x.file("gateway.pem", pki.EncodeCertificate(pinned))
		remote.set("certs", name)
		x.note("peer.cert", "%s belongs in /etc/swanctl/x509", name)
	} else if c.Peer.Auth != "psk" {
		remote.set("cacerts", strings.Join(x.authorityFiles("/etc/swanctl/x509ca"), ","))
	}
	if x.carry("peer.revocation"); c.Peer.Revocation == "strict" || c.Peer.Revocation == "relaxed" {
		remote.set("revocation", c.Peer.Revocation)
	}
	x.lists("/etc/swanctl/x509crl")
	return nil
}

// swanctlLocal is one of our proofs.
func (x *exporter) swanctlLocal(s, secrets *section, table string, a *config.Auth) error {
	x.carry(table+"auth", table+"id")
	s.set("id", grammarID(a.ID, a.Identity))
	certificate := a.Auth == "cert" || len(a.Credentials) > 0
	switch {
	case table == "local2." && (certificate || !isEAP(a.Auth)):
		return x.cannot("its second proof is no EAP with a password", "set auth = \"cert\" in local and \"eap\" in local2")
	case a.Auth == "psk":
		s.set("auth", "psk")
		return nil
	case a.Auth == "cert":
		s.set("auth", "pubkey")
	default:
		s.set("auth", a.Auth)
		x.carry(table+"user", table+"eap_server")
		s.set("eap_id", a.User)
		s.set("aaa_id", grammarID(a.EAPServer, a.EAPServerName))
	}
	if certificate {
		cert, key, err := x.credentialFiles("/etc/swanctl/x509", "/etc/swanctl/private")
		if err != nil {
			return err
		}
		s.set("certs", cert)
		secret := secrets.sub("private-" + x.base)
		secret.set("file", key)
		secret.set("secret", base64Secret([]byte(x.keyPassword())))
	}
	if isEAP(a.Auth) && a.Auth != "eap-tls" {
		if value := x.secret(table+"secret", "the password of the account", a.Secret, true); len(value) > 0 {
			secret := secrets.sub("eap-" + x.base)
			secret.set("id", a.User)
			secret.set("secret", base64Secret(value))
		}
	}
	return nil
}
