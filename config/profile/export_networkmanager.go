package profile

import (
	"fmt"
	"slices"
	"strings"

	"martlet/config"
	"martlet/crypto/pki"
)

// nmFolder is where keyfiles are, and what they name: only root reads it.
const nmFolder = "/etc/NetworkManager/system-connections"

// writeNM writes a keyfile for NetworkManager with strongSwan's plug-in.
func writeNM(x *exporter) error {
	c := x.c
	pair, err := x.pair()
	if err != nil {
		return err
	}
	if err := x.eapOnly(); err != nil {
		return err
	}
	var vpn []string
	set := func(key, value string) {
		if value != "" {
			vpn = append(vpn, key+"="+escapeKeyfile(value))
		}
	}
	set("service-type", nmService)
	set("address", c.Remote[0])
	if c.Port != 0 {
		set("server-port", fmt.Sprint(c.Port))
	}
	set("virtual", yesNo(len(c.Request) > 0))
	set("encap", "yes") // Martlet's ESP is always in UDP
	set("ipcomp", "no")
	x.carry("request", "local.id", "peer.id", "child.local", "child.remote", "child.keep")
	set("local-identity", grammarID(c.Local.ID, c.Local.Identity))
	if c.Peer.Auth == "cert" || c.Peer.ID != "" {
		set("remote-identity", grammarID("", x.gateway()))
	}
	password, err := x.nmAuth(set, pair)
	if err != nil {
		return err
	}
	child := x.only()
	ike, esp := x.keywords("proposals", c.Proposals, c.IKE), x.keywords("child.proposals", child.Proposals, child.ESP)
	set("proposal", yesNo(len(ike)+len(esp) > 0))
	set("ike", strings.Join(ike, ";"))
	set("esp", strings.Join(esp, ";"))
	if !slices.Equal(child.Local, []string{"dynamic"}) {
		set("local-ts", strings.Join(child.Local, ";"))
	}
	if !slices.Equal(child.Remote, []string{"0.0.0.0/0", "::/0"}) {
		set("remote-ts", strings.Join(child.Remote, ";"))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[connection]\nid=%s\nuuid=%s\ntype=vpn\nautoconnect=%v\n\n[vpn]\n%s\n", escapeKeyfile(c.Name), x.uuid("connection"), c.Keep == config.KeepUp, strings.Join(vpn, "\n"))
	if password != "" {
		fmt.Fprintf(&b, "\n[vpn-secrets]\npassword=%s\n", escapeKeyfile(password))
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		fmt.Fprintf(&b, "\n[%s]\nmethod=auto\n%s", family, x.nmRoutes(family == "ipv4"))
	}
	switch x.carry("keep"); c.Keep {
	case config.KeepManual:
	case config.KeepUp:
		x.note("keep", "NetworkManager opens a VPN by itself together with a network that names it: nmcli connection modify NETWORK connection.secondaries %s", x.uuid("connection"))
	case config.KeepOnDemand:
		x.note("keep", "not carried over: the connection is opened by hand there")
	}
	x.main(".nmconnection", []byte(b.String()))
	x.note("", "%s belongs in %s, and is root's with mode 0600; then nmcli connection reload", x.Main, nmFolder)
	return nil
}

// nmAuth is how the two sides prove who they are. It returns the secret.
func (x *exporter) nmAuth(set func(key, value string), pair string) (string, error) {
	a := x.c.Local
	if pair == "psk" {
		set("method", "psk")
		set("user", grammarID(a.ID, a.Identity))
		x.carry("peer.secret")
		return x.nmPassword(set, "local.secret", "the pre-shared key", a.Secret)
	}
	pinned, err := x.pinned()
	if err != nil {
		return "", err
	}
	cas := x.authorities()
	switch {
	case pinned != nil:
		set("certificate", x.nmFile("gateway.pem", pki.EncodeCertificate(pinned)))
	case len(cas) > 0:
		set("certificate", x.nmFile("ca.pem", pki.EncodeCertificate(cas[0])))
		if len(cas) > 1 {
			x.note("peer.ca", "only the first CA, %s, is trusted there: there is room for one", quoted(cas[0].Subject.String()))
		}
	}
	if pair == "eap" && a.Auth != "eap-tls" {
		set("method", "eap")
		if strings.HasPrefix(a.Auth, "eap-") {
			x.note("local.auth", "changed: the gateway chooses the method of EAP there")
		}
		user, err := x.user("local.user", a.User)
		if err != nil {
			return "", err
		}
		set("user", user)
		return x.nmPassword(set, "local.secret", "the password of the account", a.Secret)
	}
	set("method", map[bool]string{true: "cert", false: "eap-tls"}[pair == "cert"])
	set("cert-source", "file")
	x.carry("local.user")
	data, cred, err := x.encryptedKey()
	if err != nil {
		return "", err
	}
	set("usercert", x.nmFile("cert.pem", pki.EncodeCertificate(cred.Cert)))
	set("userkey", x.nmFile("key.pem", data))
	return x.nmPassword(set, "local.key_password", "the password of the private key", config.Secret{Value: []byte(x.o.Password)})
}

// nmPassword is a secret, and where NetworkManager finds it: in the file, or with the person.
func (x *exporter) nmPassword(set func(key, value string), key, what string, s config.Secret) (string, error) {
	text, err := x.secretText(key, what, s, false)
	set("password-flags", map[bool]string{true: "0", false: "2"}[text != ""])
	return text, err
}

// nmFile adds a file, and returns where it must be.
func (x *exporter) nmFile(what string, data []byte) string {
	name := x.file(what, data)
	x.note("", "%s belongs in %s", name, nmFolder)
	return nmFolder + "/" + name
}

// nmRoutes are the routes of one family, where they are not what the gateway agrees to.
func (x *exporter) nmRoutes(ipv4 bool) string {
	x.carry("routes")
	if !x.c.Routes.None && len(x.c.Routes.List) == 0 {
		return ""
	}
	out := "never-default=true\n"
	n := 0
	for _, p := range x.c.Routes.List {
		if p.Addr().Is4() == ipv4 {
			n++
			out += fmt.Sprintf("route%d=%s\n", n, p)
		}
	}
	return out
}

// escapeKeyfile writes a value as GLib's key files have it.
func escapeKeyfile(value string) string {
	text := strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(value)
	trimmed := strings.TrimLeft(text, " ")
	text = strings.Repeat(`\s`, len(text)-len(trimmed)) + trimmed
	trimmed = strings.TrimRight(text, " ")
	return trimmed + strings.Repeat(`\s`, len(text)-len(trimmed))
}
