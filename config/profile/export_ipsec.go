package profile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"martlet/config"
	"martlet/crypto/pki"
)

// writeIPsec writes an ipsec.conf and an ipsec.secrets of strongSwan, to be included by those that
// are there.
func writeIPsec(x *exporter) error {
	c := x.c
	var lines, secrets []string
	var fault error
	set := func(key, value string) {
		if value == "" {
			return
		}
		// What a backslash means within quotes differs between versions.
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f || r == '"' || r == '\\' }) && fault == nil {
			fault = x.cannot(key+" would have characters that ipsec.conf cannot write", "export for swanctl")
		}
		if strings.ContainsAny(value, " \t#'=;") {
			value = `"` + value + `"`
		}
		lines = append(lines, "\t"+key+"="+value)
	}
	set("keyexchange", "ikev2")
	set("left", "%defaultroute")
	set("right", strings.Join(c.Remote, ","))
	if c.Port != 0 {
		set("rightikeport", fmt.Sprint(c.Port))
		set("leftikeport", "4500") // else messages lack the marker of ESP in UDP
	}
	var vips []string
	for _, family := range c.Request {
		vips = append(vips, map[string]string{"ipv4": "%config4", "ipv6": "%config6"}[family])
	}
	set("leftsourceip", strings.Join(vips, ","))
	if words := x.keywords("proposals", c.Proposals, c.IKE); len(words) > 0 {
		set("ike", ipsecWords(words))
	}
	set("forceencaps", "yes") // Martlet's ESP is always in UDP
	set("mobike", yesNo(!c.NoMOBIKE))
	if c.FragmentSize < 0 {
		x.carry("fragment_size")
		set("fragmentation", "no")
	}
	set("dpddelay", seconds(c.Liveness))
	x.carry("request", "no_mobike", "liveness", "keep")
	if err := x.ipsecAuth(set, &secrets); err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(c.Children))
	x.ipsecTimes(set, c.Children[names[0]])
	head := "conn " + x.base + "\n" + strings.Join(lines, "\n") + "\n"
	var b strings.Builder
	b.WriteString("# Connection " + c.Name + ", made by Martlet.\n" + head)
	for i, name := range names {
		lines = nil
		x.ipsecChild(set, c.Children[name])
		if i > 0 {
			b.WriteString("\nconn " + x.base + "-" + plainName(name) + "\n\talso=" + x.base + "\n")
		}
		b.WriteString(strings.Join(lines, "\n") + "\n")
	}
	if fault != nil {
		return fault
	}
	x.main(".conf", []byte(b.String()))
	x.note("", "add \"include %s\" to ipsec.conf, by its whole path", x.Main)
	if len(secrets) > 0 {
		name := x.base + ".secrets"
		x.Files[name] = []byte(strings.Join(secrets, "\n") + "\n")
		x.note("", "add \"include %s\" to ipsec.secrets, by its whole path; then ipsec update and ipsec rereadsecrets", name)
	}
	return nil
}

// ipsecWords are proposals in one line, alone.
func ipsecWords(words []string) string {
	if slices.Contains(words, "default") {
		return strings.Join(slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "default" }), ",")
	}
	return strings.Join(words, ",") + "!"
}

// ipsecChild is what a child has of its own.
func (x *exporter) ipsecChild(set func(key, value string), child *config.Child) {
	x.carry("child.local", "child.remote", "child.tfc", "child.keep")
	if !slices.Equal(child.Local, []string{"dynamic"}) {
		set("leftsubnet", strings.Join(child.Local, ","))
	}
	if !slices.Equal(child.Remote, []string{"dynamic"}) {
		set("rightsubnet", strings.Join(child.Remote, ","))
	}
	if words := x.keywords("child.proposals", child.Proposals, child.ESP); len(words) > 0 {
		set("esp", ipsecWords(words))
	}
	switch {
	case child.TFC < 0:
		set("tfc", "%mtu")
	case child.TFC > 0:
		set("tfc", fmt.Sprint(child.TFC))
	}
	switch cmp.Or(child.Keep, x.c.Keep) {
	case config.KeepUp:
		set("auto", "start")
		set("dpdaction", "restart")
		set("closeaction", "restart")
	case config.KeepOnDemand:
		set("auto", "route")
		set("dpdaction", "hold")
	default:
		set("auto", "add")
		set("dpdaction", "clear")
	}
}

// ipsecTimes is when SAs are replaced: a margin before they end, which is the same for both kinds.
func (x *exporter) ipsecTimes(set func(key, value string), child *config.Child) {
	c := x.c
	x.carry("rekey", "reauth", "child.rekey")
	rekey := c.Rekey
	set("reauth", yesNo(c.Reauth > 0))
	if c.Reauth > 0 {
		x.note("reauth", "changed: who proves who it is again has no need of rekey before")
		rekey = c.Reauth
	}
	if rekey <= 0 && child.Rekey <= 0 {
		set("rekey", "no")
		return
	}
	// A tenth of the longer one, but not more than half of a life.
	margin := max(child.Rekey, rekey) / 10
	for _, d := range []config.Duration{rekey, child.Rekey} {
		if d > 0 {
			margin = min(margin, d)
		}
	}
	for _, sa := range []struct {
		key, name string
		rekey     config.Duration
	}{{"rekey", "ikelifetime", rekey}, {"child.rekey", "lifetime", child.Rekey}} {
		if sa.rekey <= 0 {
			x.note(sa.key, "not carried over: both kinds of SA are replaced there, or none; this one after a day")
			sa.rekey = 24 * 3600e9
		}
		set(sa.name, seconds(sa.rekey+margin))
	}
	set("margintime", seconds(margin))
	set("rekeyfuzz", "10%")
}

// ipsecAuth is how the two sides prove who they are.
func (x *exporter) ipsecAuth(set func(key, value string), secrets *[]string) error {
	c := x.c
	for _, local := range []struct {
		round, table string
		a            *config.Auth
	}{{"", "local.", &c.Local}, {"2", "local2.", &c.Local2}} {
		a := local.a
		if !a.IsSet() {
			continue
		}
		x.carry(local.table+"auth", local.table+"id")
		set("leftauth"+local.round, ipsecMethod(a.Auth))
		set("leftid"+local.round, grammarID(a.ID, a.Identity))
		if local.round != "" && (len(a.Credentials) > 0 || !isEAP(a.Auth)) {
			return x.cannot("its second proof is no EAP with a password", "set auth = \"cert\" in local and \"eap\" in local2")
		}
		if a.Auth == "cert" || len(a.Credentials) > 0 {
			cert, key, err := x.credentialFiles("/etc/ipsec.d/certs", "/etc/ipsec.d/private")
			if err != nil {
				return err
			}
			set("leftcert", cert)
			*secrets = append(*secrets, ": PKCS8 "+key+" "+cmp.Or(base64Secret([]byte(x.keyPassword())), "%prompt"))
		}
		if !isEAP(a.Auth) {
			continue
		}
		x.carry(local.table + "eap_server")
		user, err := x.user(local.table+"user", a.User)
		if err != nil {
			return err
		}
		set("eap_identity", user)
		set("aaa_identity", grammarID(a.EAPServer, a.EAPServerName))
		if a.Auth == "eap-tls" {
			continue
		}
		if value := x.secret(local.table+"secret", "the password of the account", a.Secret, true); len(value) > 0 {
			*secrets = append(*secrets, quoteSecretID(user)+": EAP "+base64Secret(value))
		}
	}
	x.carry("peer.id", "eap_only")
	set("rightid", grammarID(c.Peer.ID, c.Peer.Identity))
	if isEAP(c.Peer.Auth) {
		set("rightauth", c.Local.Auth)
	} else {
		set("rightauth", ipsecMethod(c.Peer.Auth))
	}
	if c.Local.Auth == "psk" || c.Peer.Auth == "psk" {
		value := c.Peer.Secret
		if c.Local.Auth == "psk" {
			value = c.Local.Secret
			x.carry("local.secret")
		}
		if text := x.secret("peer.secret", "the pre-shared key", value, true); len(text) > 0 {
			ids := quoteSecretID(grammarID(c.Local.ID, c.Local.Identity)) + quoteSecretID(grammarID(c.Peer.ID, c.Peer.Identity))
			*secrets = append(*secrets, ids+": PSK "+base64Secret(text))
		}
	}
	pinned, err := x.pinned()
	if err != nil {
		return err
	}
	if pinned != nil {
		name := x.file("gateway.pem", pki.EncodeCertificate(pinned))
		set("rightcert", name)
		x.note("peer.cert", "%s belongs in /etc/ipsec.d/certs", name)
	} else if c.Peer.Auth != "psk" && len(x.authorityFiles("/etc/ipsec.d/cacerts")) > 0 {
		x.note("peer.ca", "every CA in /etc/ipsec.d/cacerts is trusted to name the gateway there; export for swanctl has those alone that are meant")
	}
	if x.carry("peer.revocation"); c.Peer.Revocation == "strict" {
		x.note("peer.revocation", "not carried over: strictcrlpolicy=yes in \"config setup\" asks it of all connections")
	}
	x.lists("/etc/ipsec.d/crls")
	return nil
}

// ipsecMethod is strongSwan's word for one of Martlet's.
func ipsecMethod(auth string) string {
	if auth == "cert" {
		return "pubkey"
	}
	return auth
}

// quoteSecretID is whose a secret is; nothing where it is everybody's.
func quoteSecretID(id string) string {
	if id == "" {
		return ""
	}
	return `"` + id + `" `
}
