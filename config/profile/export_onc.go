package profile

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"

	"martlet/config"
)

// writeONC writes a configuration for ChromeOS.
func writeONC(x *exporter) error {
	pair, err := x.pair()
	if err != nil {
		return err
	}
	if err := x.eapOnly(); err != nil {
		return err
	}
	c := x.c
	ipsec := map[string]any{"IKEVersion": 2}
	vpn := map[string]any{"Type": "IPsec", "Host": c.Remote[0], "AutoConnect": c.Keep == config.KeepUp, "IPsec": ipsec}
	certs := []any{}
	x.carry("local.id", "peer.id", "request", "child.keep")
	if id := grammarID(c.Local.ID, c.Local.Identity); id != "" {
		ipsec["LocalIdentity"] = id
	}
	ipsec["RemoteIdentity"] = grammarID("", x.gateway())
	if pair != "psk" {
		var refs []string
		for i, ca := range x.authorities() {
			guid := "{" + x.uuid(fmt.Sprintf("ca-%d", i)) + "}"
			refs = append(refs, guid)
			certs = append(certs, map[string]any{"GUID": guid, "Type": "Authority", "X509": base64.StdEncoding.EncodeToString(ca.Raw)})
		}
		if len(refs) > 0 {
			ipsec["ServerCARefs"] = refs
		} else if pair == "cert" {
			return x.cannot("it trusts the CA of a gateway that is named, and the connection trusts the system's", "name the CA of the gateway's certificate in ca")
		}
	}
	switch pair {
	case "psk":
		x.carry("peer.secret")
		ipsec["AuthenticationType"] = "PSK"
		text, err := x.secretText("local.secret", "the pre-shared key", c.Local.Secret, false)
		if err != nil {
			return err
		}
		if text != "" {
			ipsec["PSK"] = text
		}
	case "cert":
		data, cred, err := x.container(false)
		if err != nil {
			return err
		}
		// A PKCS#12 file within the configuration would have to be without a password.
		name := x.file("cert.p12", data)
		ipsec["AuthenticationType"] = "Cert"
		ipsec["ClientCertType"] = "Pattern"
		ipsec["ClientCertPattern"] = map[string]any{"Issuer": map[string]any{"CommonName": cred.Cert.Issuer.CommonName}}
		x.need("local.cert", "import %s on the device first, by \"Import and bind\", with the password", name)
	case "eap":
		if err := x.oncEAP(ipsec); err != nil {
			return err
		}
	}
	if c.Keep == config.KeepOnDemand {
		x.note("keep", "not carried over: the connection is opened by hand there")
	}
	x.carry("keep")
	if !slices.Equal(c.Proposals, []string{"default"}) || !slices.Equal(x.only().Proposals, []string{"default"}) {
		x.note("proposals", "not carried over: it offers aes128-sha256-modp3072 and strongSwan's own proposals, of which the gateway must take one")
		x.carry("child.proposals", "legacy")
	}
	root := map[string]any{
		"Type":                  "UnencryptedConfiguration",
		"NetworkConfigurations": []any{map[string]any{"GUID": "{" + x.uuid("vpn") + "}", "Name": c.Name, "Type": "VPN", "VPN": vpn}},
		"Certificates":          certs,
	}
	data, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return x.cannot(err.Error(), "")
	}
	if bytes.Contains(data, []byte("${")) {
		return x.cannot("a name or a secret has \"${\", for which ChromeOS puts something else", "choose another one")
	}
	x.main(".onc", append(data, '\n'))
	x.note("", "import it on the device at chrome://network#general")
	return nil
}

// oncEAP is how we log in.
func (x *exporter) oncEAP(ipsec map[string]any) error {
	a := x.c.Local
	if !slices.Contains(a.Methods, "mschapv2") {
		return x.cannot("it logs in by EAP-MSCHAPv2, and local.auth is "+quoted(a.Auth), "set auth = \"eap-mschapv2\", which the gateway must allow")
	}
	user, err := x.user("local.user", a.User)
	if err != nil {
		return err
	}
	text, err := x.secretText("local.secret", "the password of the account", a.Secret, false)
	if err != nil {
		return err
	}
	eap := map[string]any{"Outer": "MSCHAPv2", "SaveCredentials": text != ""}
	if user != "" {
		eap["Identity"] = user
	}
	if text != "" {
		eap["Password"] = text
	}
	ipsec["AuthenticationType"], ipsec["EAP"] = "EAP", eap
	return nil
}
