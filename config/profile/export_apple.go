package profile

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"martlet/config"
	"martlet/crypto/suite"
)

// appleIKE are the words of Apple's IKEv2 dictionary.
func appleIKE() map[suite.Transform]string {
	return map[suite.Transform]string{
		{Type: suite.TypeEncr, ID: suite.EncrAESGCM16, KeyLen: 256}: "AES-256-GCM",
		{Type: suite.TypeEncr, ID: suite.EncrAESGCM16, KeyLen: 128}: "AES-128-GCM",
		{Type: suite.TypeEncr, ID: suite.EncrChaCha20Poly1305}:      "ChaCha20Poly1305",
		{Type: suite.TypeEncr, ID: suite.EncrAESCBC, KeyLen: 256}:   "AES-256",
		{Type: suite.TypeEncr, ID: suite.EncrAESCBC, KeyLen: 128}:   "AES-128",
		{Type: suite.TypePRF, ID: suite.PRFHMACSHA256}:              "SHA2-256",
		{Type: suite.TypePRF, ID: suite.PRFHMACSHA384}:              "SHA2-384",
		{Type: suite.TypePRF, ID: suite.PRFHMACSHA512}:              "SHA2-512",
		{Type: suite.TypePRF, ID: suite.PRFHMACSHA1}:                "SHA1-96",
		{Type: suite.TypeInteg, ID: suite.IntegHMACSHA2_256_128}:    "SHA2-256",
		{Type: suite.TypeInteg, ID: suite.IntegHMACSHA2_384_192}:    "SHA2-384",
		{Type: suite.TypeInteg, ID: suite.IntegHMACSHA2_512_256}:    "SHA2-512",
		{Type: suite.TypeInteg, ID: suite.IntegHMACSHA1_96}:         "SHA1-96",
	}
}

// appleGroups are those that it knows: P-256 since iOS 8.3, and x25519 not on all devices in use.
var appleGroups = []uint16{suite.KEECP256, suite.KEECP384, suite.KEECP521, suite.KEX25519, suite.KEMODP3072, suite.KEMODP4096, suite.KEMODP2048, suite.KEMODP1024}

const appleCan = "it knows AES-128 and AES-256 with GCM or with SHA-2, ChaCha20-Poly1305, and the groups ecp256, ecp384, ecp521, x25519 and modp2048 to 4096: set proposals = [\"aes256gcm16-prfsha256-ecp256\"], and at the gateway too"

// writeApple writes a .mobileconfig: a VPN payload, and one for each certificate.
func writeApple(x *exporter) error {
	pair, err := x.pair()
	if err != nil {
		return err
	}
	ike := dict{{"RemoteAddress", x.c.Remote[0]}}
	remoteID, err := x.plainID("peer.id", x.gateway())
	if err != nil {
		return err
	}
	localID, err := x.plainID("local.id", x.c.Local.Identity)
	if err != nil {
		return err
	}
	ike = append(ike, entry{"RemoteIdentifier", remoteID}, entry{"LocalIdentifier", localID})
	payloads := []any{}
	for i, ca := range x.authorities() {
		payloads = append(payloads, x.applePayload("com.apple.security.root", fmt.Sprintf("ca-%d", i), ca.Subject.CommonName,
			entry{"PayloadContent", ca.Raw}, entry{"PayloadCertificateFileName", fmt.Sprintf("ca-%d.cer", i)}))
	}
	auth, own, err := x.appleAuth(pair)
	if err != nil {
		return err
	}
	if own != nil {
		payloads = append(payloads, own)
	}
	ike = append(ike, auth...)
	suites, err := x.appleSuites()
	if err != nil {
		return err
	}
	ike = append(ike, suites...)
	more, err := x.appleOptions()
	if err != nil {
		return err
	}
	ike = append(ike, more...)
	x.carry("request")
	vpn := x.applePayload(appleVPN, "vpn", x.c.Name, entry{"UserDefinedName", x.c.Name}, entry{"VPNType", "IKEv2"}, entry{"IKEv2", ike})
	profile := x.applePayload("Configuration", "profile", x.c.Name, entry{"PayloadContent", append(payloads, vpn)})
	data, err := encodePlist(profile)
	if err != nil {
		return x.cannot(err.Error(), "choose another one")
	}
	if x.c.Routes.None || len(x.c.Routes.List) > 0 {
		x.note("routes", "%s", exportWhy()["routes"])
	}
	x.note("", "the profile is not signed: the device shows that, and takes it")
	x.main(".mobileconfig", data)
	return nil
}

// applePayload is a payload with the keys that all have.
func (x *exporter) applePayload(kind, part, name string, more ...entry) dict {
	uuid := x.uuid(part)
	return append(dict{
		{"PayloadType", kind}, {"PayloadVersion", 1}, {"PayloadIdentifier", "martlet." + uuid}, {"PayloadUUID", uuid}, {"PayloadDisplayName", name},
	}, more...)
}

// appleAuth is how the two sides prove who they are, and the payload with our certificate if there
// is one.
func (x *exporter) appleAuth(pair string) (dict, any, error) {
	a := x.c.Local
	switch {
	case pair == "psk":
		x.carry("peer.secret")
		text, err := x.secretText("local.secret", "the pre-shared key", a.Secret, true)
		return dict{{"AuthenticationMethod", "SharedSecret"}, {"SharedSecret", text}, {"ExtendedAuthEnabled", 0}}, nil, err
	case pair == "cert":
		keys, own, err := x.appleCertificate()
		return append(dict{{"AuthenticationMethod", "Certificate"}, {"ExtendedAuthEnabled", 0}}, keys...), own, err
	case slices.Contains(a.Methods, "tls"):
		method := "Certificate"
		if isEAP(x.c.Peer.Auth) {
			method = "None"
		}
		x.carry("eap_only")
		keys, own, err := x.appleCertificate()
		keys = append(dict{{"AuthenticationMethod", method}, {"ExtendedAuthEnabled", 1}}, keys...)
		if a.TLS == "1.3" {
			return nil, nil, x.cannot("tls = \"1.3\", and a profile allows TLS up to 1.2 there", "set tls = \"1.2\", or leave it out")
		}
		if a.TLS == "1.2" {
			x.carry("local.tls")
			keys = append(keys, entry{"TLSMinimumVersion", "1.2"}, entry{"TLSMaximumVersion", "1.2"})
		}
		return keys, own, err
	case !slices.Contains(a.Methods, "mschapv2"):
		return nil, nil, x.cannot("it logs in by EAP-MSCHAPv2 and EAP-TLS, and local.auth is "+quoted(a.Auth), "set auth = \"eap-mschapv2\" or \"eap-tls\", which the gateway must allow")
	}
	if err := x.eapOnly(); err != nil {
		return nil, nil, err
	}
	keys := dict{{"AuthenticationMethod", "Certificate"}, {"ExtendedAuthEnabled", 1}}
	user, err := x.user("local.user", a.User)
	if err != nil {
		return nil, nil, err
	}
	if user != "" {
		keys = append(keys, entry{"AuthName", user})
	}
	text, err := x.secretText("local.secret", "the password of the account", a.Secret, false)
	if text != "" {
		keys = append(keys, entry{"AuthPassword", text})
	}
	return keys, nil, err
}

// appleCertificate names our certificate, and is the payload with it.
func (x *exporter) appleCertificate() (dict, dict, error) {
	data, cred, err := x.container(true)
	if err != nil {
		return nil, nil, err
	}
	own := x.applePayload(applePKCS12, "certificate", x.c.Name, entry{"PayloadContent", data}, entry{"PayloadCertificateFileName", x.base + ".p12"})
	if text := x.keyPassword(); text != "" {
		own = append(own, entry{"Password", text})
	}
	keys := dict{{"PayloadCertificateUUID", x.uuid("certificate")}}
	kind, err := x.appleKind(cred.Cert)
	if err == nil && kind != "RSA" {
		// Apple's schema wants the two together. The issuer makes the device ask for a certificate of it.
		cas := x.authorities()
		if len(cas) == 0 || cas[0].Subject.CommonName == "" {
			return nil, nil, x.cannot("our key is no RSA key, with which the name of the gateway's CA must stand there, and it has none", "name the CA of the gateway in ca, or take an RSA key")
		}
		keys = append(keys, entry{"CertificateType", kind}, entry{"ServerCertificateIssuerCommonName", cas[0].Subject.CommonName})
	}
	return keys, own, err
}

// appleKind is Apple's word for the type of a key.
func (x *exporter) appleKind(cert *x509.Certificate) (string, error) {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		return "RSA", nil
	case *ecdsa.PublicKey:
		return fmt.Sprintf("ECDSA%d", key.Curve.Params().BitSize), nil
	}
	return "", x.cannot("our key is neither RSA nor ECDSA", "take a certificate with an RSA or ECDSA key for the device")
}

// appleSuites are the algorithms and the lives of the SAs.
func (x *exporter) appleSuites() (dict, error) {
	child := x.only()
	ike, esp, err := x.chosen(child, appleIKE(), appleIKE(), appleGroups, appleCan)
	if err != nil {
		return nil, err
	}
	if esp.hash == "" {
		esp.hash = "SHA2-256"
	}
	pfs := 1
	if esp.group == 0 {
		pfs, esp.group = 0, ike.group
	}
	sa := func(c choice, minutes int) dict {
		return dict{{"EncryptionAlgorithm", c.encryption}, {"IntegrityAlgorithm", c.hash}, {"DiffieHellmanGroup", int(c.group)}, {"LifeTimeInMinutes", minutes}}
	}
	return dict{
		{"IKESecurityAssociationParameters", sa(ike, x.appleLife("", x.c.Rekey))},
		{"ChildSecurityAssociationParameters", sa(esp, x.appleLife("child.", child.Rekey))},
		{"EnablePFS", pfs},
	}, nil
}

// appleLife is the life in minutes of an SA that is replaced after rekey: Apple's replace it when
// four fifths of it are over.
func (x *exporter) appleLife(table string, rekey config.Duration) int {
	const least, most = 10, 1440
	x.carry(table+"rekey", table+"lifetime")
	minutes := int(time.Duration(rekey) * 5 / 4 / time.Minute)
	switch {
	case rekey <= 0:
		x.note(table+"rekey", "not carried over: the SA is replaced after 19 hours there, the longest that can be said")
		return most
	case minutes < least || minutes > most:
		x.note(table+"rekey", "changed: the life of an SA is 10 to 1440 minutes there")
	}
	return min(max(minutes, least), most)
}

// appleOptions are the keys that stand for single ones of the connection.
func (x *exporter) appleOptions() (dict, error) {
	c := x.c
	out := dict{}
	x.carry("keep", "liveness", "no_mobike", "ignore_redirects", "ppk", "ppk_required", "child.keep")
	rate := "High"
	switch live := time.Duration(c.Liveness); {
	case live < 0:
		rate = "None"
	case live > 10*time.Minute:
		rate = "Low"
	case live > time.Minute:
		rate = "Medium"
	}
	if live := time.Duration(c.Liveness); live > 0 && live != time.Minute && live != 10*time.Minute && live != 30*time.Minute {
		x.note("liveness", "changed: the gateway is checked after 1, 10 or 30 minutes there")
	}
	out = append(out, entry{"DeadPeerDetectionRate", rate})
	if c.NoMOBIKE {
		out = append(out, entry{"DisableMOBIKE", 1})
	}
	if c.IgnoreRedirects {
		out = append(out, entry{"DisableRedirect", 1})
	}
	switch c.Peer.Revocation {
	case "strict":
		x.note("peer.revocation", "changed: a certificate of which nobody says that it is good is taken there")
		fallthrough
	case "relaxed":
		x.carry("peer.revocation")
		out = append(out, entry{"EnableCertificateRevocationCheck", 1})
	}
	if c.Keep == config.KeepUp || c.Keep == config.KeepOnDemand {
		out = append(out, entry{"OnDemandEnabled", 1}, entry{"OnDemandRules", []any{dict{{"Action", "Connect"}}}})
		x.note("keep", "the device opens the connection by itself when something is to be sent; keep = \"manual\" leaves that to the person")
	}
	for name, ppk := range c.PPKs {
		text, err := x.user("ppk."+name, name)
		if err != nil {
			return nil, err
		}
		secret := x.secret("ppk", "the post-quantum pre-shared key", ppk.Secret, c.PPKRequired)
		if len(secret) == 0 {
			break
		}
		mandatory := 0
		if c.PPKRequired {
			mandatory = 1
		}
		out = append(out, entry{"PPK", secret}, entry{"PPKIdentifier", text}, entry{"PPKMandatory", mandatory})
		x.note("ppk", "devices know it from iOS 18 and macOS 15 on")
	}
	return out, nil
}
