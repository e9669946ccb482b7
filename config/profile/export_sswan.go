package profile

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"martlet/config"
)

// writeSswan writes a profile for the app on Android.
func writeSswan(x *exporter) error {
	c := x.c
	if c.Peer2.IsSet() {
		return x.cannot("the gateway gives two proofs, and it takes one", "remove peer2, or export for swanctl")
	}
	if err := x.eapOnly(); err != nil {
		return err
	}
	top := map[string]any{"uuid": x.uuid("profile"), "name": c.Name}
	remote := map[string]any{"addr": c.Remote[0]}
	top["remote"] = remote
	if c.Port != 0 {
		remote["port"] = c.Port
	}
	x.carry("peer.id")
	if id := grammarID(c.Peer.ID, c.Peer.Identity); id != "" && id != c.Remote[0] {
		remote["id"] = grammarID("", x.gateway())
	}
	if err := x.sswanPeer(remote); err != nil {
		return err
	}
	local, err := x.sswanLocal(top)
	if err != nil {
		return err
	}
	top["local"] = local
	child := x.only()
	if words := x.keywords("proposals", c.Proposals, c.IKE); len(words) > 0 {
		top["ike-proposal"] = x.one("proposals", words)
	}
	if words := x.keywords("child.proposals", child.Proposals, child.ESP); len(words) > 0 {
		top["esp-proposal"] = x.one("child.proposals", words)
	}
	x.carry("request", "keep", "child.keep", "keepalive")
	if seconds := int(time.Duration(c.Keepalive) / time.Second); seconds > 0 {
		top["nat-keepalive"] = seconds
	}
	list, full := x.destinations()
	if !full && len(list) > 0 {
		var subnets []string
		for _, p := range list {
			subnets = append(subnets, p.String())
		}
		top["split-tunneling"] = map[string]any{"subnets": subnets}
	} else if !full {
		x.note("routes", "not carried over: everything goes into the tunnel there")
	}
	if c.Keep != config.KeepManual {
		x.note("keep", "not carried over: the connection is opened by hand; Android's settings have \"always-on VPN\"")
	}
	data, err := json.MarshalIndent(top, "", "  ")
	if err != nil {
		return x.cannot(err.Error(), "")
	}
	x.main(".sswan", append(data, '\n'))
	return nil
}

// one is the first of several proposals, for there is room for one.
func (x *exporter) one(key string, words []string) string {
	words = slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "default" })
	if len(words) == 0 {
		return ""
	}
	if len(words) > 1 {
		x.note(key, "only %s is offered there: there is room for one", words[0])
	}
	return words[0]
}

// sswanPeer is how the gateway must prove who it is.
func (x *exporter) sswanPeer(remote map[string]any) error {
	if x.c.Peer.Auth != "cert" {
		return x.cannot("the gateway must have a certificate there, and no pre-shared key", "set auth = \"cert\" for the peer")
	}
	pinned, err := x.pinned()
	if err != nil {
		return err
	}
	cas := x.authorities()
	switch {
	case pinned != nil:
		remote["cert"] = base64.StdEncoding.EncodeToString(pinned.Raw)
	case len(cas) > 0:
		remote["cert"] = base64.StdEncoding.EncodeToString(cas[0].Raw)
		if len(cas) > 1 {
			x.note("peer.ca", "only the first CA, %s, is trusted there: there is room for one", quoted(cas[0].Subject.String()))
		}
	}
	x.carry("peer.revocation")
	switch x.c.Peer.Revocation {
	case "strict":
		remote["revocation"] = map[string]any{"strict": true}
	case "", "off":
		remote["revocation"] = map[string]any{"crl": false, "ocsp": false}
	}
	return nil
}

// sswanLocal is how we prove who we are.
func (x *exporter) sswanLocal(top map[string]any) (map[string]any, error) {
	a := x.c.Local
	local := map[string]any{}
	x.carry("local.id")
	if id := grammarID(a.ID, a.Identity); id != "" {
		local["id"] = id
	}
	login, key := &a, "local"
	switch {
	case a.Auth == "cert" && x.c.Local2.IsSet():
		top["type"] = "ikev2-cert-eap"
		login, key = &x.c.Local2, "local2"
		x.carry("local2.auth")
	case x.c.Local2.IsSet():
		return nil, x.cannot("its second proof there is EAP after a certificate, and the connection has others", "set auth = \"cert\" in local and \"eap\" in local2")
	case a.Auth == "cert":
		top["type"] = "ikev2-cert"
	case a.Auth == "psk":
		return nil, x.cannot("it has no pre-shared keys", "use certificates, or EAP with a password; or export for mobileconfig, swanctl or networkmanager")
	case slices.Contains(a.Methods, "tls"):
		top["type"] = "ikev2-eap-tls"
	default:
		top["type"] = "ikev2-eap"
	}
	kind := top["type"].(string)
	if kind != "ikev2-eap" {
		data, _, err := x.container(true)
		if err != nil {
			return nil, err
		}
		local["p12"] = base64.StdEncoding.EncodeToString(data)
		if x.o.WithSecrets {
			x.note("", "the password of the private key is not in the file: the app asks for it, and there is no room for it")
		}
	}
	if kind == "ikev2-cert" {
		return local, nil
	}
	if kind != "ikev2-eap-tls" && !slices.ContainsFunc(login.Methods, func(m string) bool { return slices.Contains([]string{"mschapv2", "gtc", "md5"}, m) }) {
		return nil, x.cannot("it logs in by EAP-MSCHAPv2, GTC, MD5 and TLS, and auth is "+quoted(login.Auth), "set auth = \"eap-mschapv2\" or \"eap-tls\", which the gateway must allow")
	}
	if strings.HasPrefix(login.Auth, "eap-") && kind != "ikev2-eap-tls" {
		x.note(key+".auth", "changed: the gateway chooses among EAP-MSCHAPv2, GTC and MD5 there")
	}
	user, err := x.user(key+".user", login.User)
	if err != nil {
		return nil, err
	}
	if user != "" {
		local["eap_id"] = user
	}
	if kind == "ikev2-eap-tls" {
		return local, nil
	}
	text, err := x.secretText(key+".secret", "the password of the account", login.Secret, false)
	if text != "" {
		local["shared_secret"] = text
	}
	return local, err
}
