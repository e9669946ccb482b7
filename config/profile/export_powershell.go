package profile

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"martlet/config"
	"martlet/crypto/suite"
)

// windowsIKE and windowsESP are the words of Set-VpnConnectionIPsecConfiguration.
func windowsIKE() map[suite.Transform]string {
	return map[suite.Transform]string{
		{Type: suite.TypeEncr, ID: suite.EncrAESGCM16, KeyLen: 256}: "GCMAES256",
		{Type: suite.TypeEncr, ID: suite.EncrAESGCM16, KeyLen: 128}: "GCMAES128",
		{Type: suite.TypeEncr, ID: suite.EncrAESCBC, KeyLen: 256}:   "AES256",
		{Type: suite.TypeEncr, ID: suite.EncrAESCBC, KeyLen: 192}:   "AES192",
		{Type: suite.TypeEncr, ID: suite.EncrAESCBC, KeyLen: 128}:   "AES128",
		{Type: suite.TypePRF, ID: suite.PRFHMACSHA256}:              "SHA256",
		{Type: suite.TypePRF, ID: suite.PRFHMACSHA384}:              "SHA384",
		{Type: suite.TypePRF, ID: suite.PRFHMACSHA1}:                "SHA1",
		{Type: suite.TypeInteg, ID: suite.IntegHMACSHA2_256_128}:    "SHA256",
		{Type: suite.TypeInteg, ID: suite.IntegHMACSHA2_384_192}:    "SHA384",
		{Type: suite.TypeInteg, ID: suite.IntegHMACSHA1_96}:         "SHA1",
	}
}

func windowsESP() map[suite.Transform]string {
	return map[suite.Transform]string{
		{Type: suite.TypeEncr, ID: suite.EncrAESGCM16, KeyLen: 256}: "GCMAES256",
		{Type: suite.TypeEncr, ID: suite.EncrAESGCM16, KeyLen: 192}: "GCMAES192",
		{Type: suite.TypeEncr, ID: suite.EncrAESGCM16, KeyLen: 128}: "GCMAES128",
		{Type: suite.TypeEncr, ID: suite.EncrAESCBC, KeyLen: 256}:   "AES256",
		{Type: suite.TypeEncr, ID: suite.EncrAESCBC, KeyLen: 192}:   "AES192",
		{Type: suite.TypeEncr, ID: suite.EncrAESCBC, KeyLen: 128}:   "AES128",
		{Type: suite.TypeInteg, ID: suite.IntegHMACSHA2_256_128}:    "SHA256128",
		{Type: suite.TypeInteg, ID: suite.IntegHMACSHA1_96}:         "SHA196",
	}
}

var windowsGroups = []uint16{suite.KEECP384, suite.KEECP256, suite.KEMODP2048, suite.KEMODP1024}

// windowsDH and windowsPFS are the names of a group in IKE and in a child.
func windowsDH() map[uint16]string {
	return map[uint16]string{suite.KEECP384: "ECP384", suite.KEECP256: "ECP256", suite.KEMODP2048: "Group14", suite.KEMODP1024: "Group2"}
}

func windowsPFS() map[uint16]string {
	return map[uint16]string{suite.KEECP384: "ECP384", suite.KEECP256: "ECP256", suite.KEMODP2048: "PFS2048", suite.KEMODP1024: "PFS2", 0: "None"}
}

const windowsCan = "it knows AES with GCM, SHA-256 or SHA-1, in IKE SHA-384 too, and the groups ecp256, ecp384 and modp2048: set proposals = [\"aes256gcm16-prfsha384-ecp384\"], and at the gateway too"

// script is a PowerShell script.
type script struct{ strings.Builder }

// line adds a line. Its values were quoted.
func (s *script) line(format string, args ...any) {
	fmt.Fprintf(s, format+"\r\n", args...)
}

// quotePS writes a string that PowerShell takes as it is: between single quotes nothing has a
// meaning but these, of which it knows five that look alike.
func quotePS(text string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for _, r := range text {
		if strings.ContainsRune("'\u2018\u2019\u201a\u201b", r) {
			b.WriteRune(r)
		}
		b.WriteRune(r)
	}
	b.WriteByte('\'')
	return b.String()
}

// writePowerShell writes a script that makes the connection on Windows 10 and 11.
func writePowerShell(x *exporter) error {
	c := x.c
	pair, err := x.pair()
	if err != nil {
		return err
	}
	if pair == "psk" {
		return x.cannot("its client has no pre-shared keys with IKEv2", "use certificates, or EAP with a password")
	}
	if err := x.eapOnly(); err != nil {
		return err
	}
	ike, esp, err := x.chosen(x.only(), windowsIKE(), windowsESP(), windowsGroups, windowsCan)
	if err != nil {
		return err
	}
	s := &script{}
	s.WriteString("\ufeff") // without it Windows PowerShell takes the text for another encoding
	s.line("#Requires -RunAsAdministrator")
	s.line("# Connection %s, made by Martlet for Windows 10 and 11. Run it from its folder in a", c.Name)
	s.line("# PowerShell that was opened as administrator:")
	s.line("#   powershell -ExecutionPolicy Bypass -File %s.ps1", x.base)
	s.line("$ErrorActionPreference = 'Stop'")
	s.line("$name = %s", quotePS(c.Name))
	s.windowsCheck()
	x.windowsAuthorities(s)
	authentication, err := x.windowsAuth(s, pair)
	if err != nil {
		return err
	}
	s.line("")
	s.line("if (Get-VpnConnection -Name $name -AllUserConnection -ErrorAction SilentlyContinue) {")
	s.line("    Remove-VpnConnection -Name $name -AllUserConnection -Force")
	s.line("}")
	s.line("Add-VpnConnection -Name $name -ServerAddress %s -TunnelType Ikev2 -AllUserConnection `", quotePS(c.Remote[0]))
	s.line("    -EncryptionLevel Maximum -RememberCredential %s", authentication)
	auth, cipher := esp.hash, esp.encryption
	if esp.aead {
		auth = esp.encryption
	}
	s.line("Set-VpnConnectionIPsecConfiguration -ConnectionName $name -AllUserConnection -Force `")
	s.line("    -EncryptionMethod %s -IntegrityCheckMethod %s -DHGroup %s `", ike.encryption, ike.hash, windowsDH()[ike.group])
	s.line("    -CipherTransformConstants %s -AuthenticationTransformConstants %s -PfsGroup %s", cipher, auth, windowsPFS()[esp.group])
	x.windowsRoutes(s)
	s.line("Write-Host ('The connection ' + $name + ' is there: open it in the settings, or by rasdial.')")
	x.windowsNotes()
	x.main(".ps1", []byte(s.String()))
	return nil
}

// windowsCheck defines what finds out whether a certificate is the one that was exported.
func (s *script) windowsCheck() {
	s.line("")
	s.line("# The certificates beside this script must be those that it was made with.")
	s.line("function Test-Hash($certificate, $expected, $file) {")
	s.line("    $hash = [BitConverter]::ToString([Security.Cryptography.SHA256]::Create().ComputeHash($certificate.RawData)) -replace '-'")
	s.line("    if ($hash -ne $expected) { throw ($file + ' is another certificate than the script was made with; its SHA-256 is ' + $hash) }")
	s.line("}")
}

// windowsAuthorities imports the CAs of the gateway.
func (x *exporter) windowsAuthorities(s *script) {
	for i, ca := range x.authorities() {
		name := x.file(numbered("ca", i, ".cer"), ca.Raw)
		store := `Cert:\LocalMachine\Root`
		if string(ca.RawSubject) != string(ca.RawIssuer) {
			store = `Cert:\LocalMachine\CA`
		}
		s.line("")
		s.line("$file = Join-Path $PSScriptRoot %s", quotePS(name))
		s.line("$ca = New-Object Security.Cryptography.X509Certificates.X509Certificate2 $file")
		s.line("Test-Hash $ca '%X' $file", sha256.Sum256(ca.Raw))
		s.line("Import-Certificate -FilePath $file -CertStoreLocation %s | Out-Null", quotePS(store))
		s.line("if (-not (Test-Path (%s + $ca.Thumbprint))) { throw ($file + ' was not imported') }", quotePS(store+`\`))
		x.note("peer.ca", "Windows then trusts the CA %s for everything, and not for this connection alone", quoted(ca.Subject.String()))
	}
}

// windowsAuth imports our certificate if there is one, and returns the arguments that say how the
// client logs in.
func (x *exporter) windowsAuth(s *script, pair string) (string, error) {
	a := x.c.Local
	x.carry("local.user", "local.id")
	if pair == "cert" {
		if err := x.windowsCertificate(s, `Cert:\LocalMachine\My`); err != nil {
			return "", err
		}
		x.note("local.cert", "of several certificates in the store of the machine Windows takes one that the gateway's CAs fit")
		x.note("local.id", "the identity is the certificate's subject there")
		return "-AuthenticationMethod MachineCertificate", nil
	}
	x.note("local.id", "the identity is the machine's address there: the gateway must go by the name of the account")
	const eap = "-AuthenticationMethod Eap -EapConfigXmlStream $eap.EapConfigXmlStream"
	switch {
	case slices.Contains(a.Methods, "tls"):
		if err := x.windowsCertificate(s, `Cert:\CurrentUser\My`); err != nil {
			return "", err
		}
		s.line("$eap = New-EapConfiguration -Tls -VerifyServerIdentity -UserCertificate")
		x.note("local.cert", "the certificate is for the user who runs the script")
		return eap, nil
	case slices.Contains(a.Methods, "mschapv2"):
		s.line("$eap = New-EapConfiguration # EAP-MSCHAPv2")
	case slices.Contains(a.Methods, "peap"):
		s.line("$eap = New-EapConfiguration -Peap -VerifyServerIdentity")
	default:
		return "", x.cannot("it logs in by EAP-MSCHAPv2, PEAP and EAP-TLS, and local.auth is "+quoted(a.Auth), "set auth = \"eap-mschapv2\", \"eap-peap\" or \"eap-tls\", which the gateway must allow")
	}
	user, err := x.user("local.user", a.User)
	if err != nil {
		return "", err
	}
	x.carry("local.secret")
	x.note("local.user", "Windows asks for name and password when the connection is opened first; the name is %s", quoted(cmp.Or(user, "that of the account")))
	return eap, nil
}

// windowsCertificate imports our certificate with its key.
func (x *exporter) windowsCertificate(s *script, store string) error {
	data, cred, err := x.container(false)
	if err != nil {
		return err
	}
	name := x.file("cert.p12", data)
	s.line("")
	s.line("$file = Join-Path $PSScriptRoot %s", quotePS(name))
	if text, err := x.user("local.key_password", x.keyPassword()); err != nil {
		return err
	} else if text != "" {
		s.line("$password = ConvertTo-SecureString %s -AsPlainText -Force", quotePS(text))
	} else {
		s.line("$password = Read-Host -AsSecureString ('Password of ' + $file)")
	}
	s.line("$ours = Import-PfxCertificate -FilePath $file -CertStoreLocation %s -Password $password | Where-Object { $_.HasPrivateKey }", quotePS(store))
	s.line("Test-Hash $ours '%X' $file", sha256.Sum256(cred.Cert.Raw))
	return nil
}

// windowsRoutes says what goes into the tunnel, since Windows does not go by the traffic selectors.
func (x *exporter) windowsRoutes(s *script) {
	list, full := x.destinations()
	s.line("Set-VpnConnection -Name $name -AllUserConnection -SplitTunneling $%v -Force -WarningAction SilentlyContinue", !full)
	for _, p := range list {
		switch {
		case p.Bits() > 0:
		case p.Addr().Is4():
			continue // the switch above
		default:
			// Windows makes no default route of IPv6, and refuses ::/0; all public addresses are these.
			p = netip.MustParsePrefix("2000::/3")
		}
		s.line("Add-VpnConnectionRoute -ConnectionName $name -AllUserConnection -DestinationPrefix %s", quotePS(p.String()))
	}
}

// windowsNotes tell what Windows does in another way.
func (x *exporter) windowsNotes() {
	c := x.c
	x.carry("request", "child.keep", "keep", "peer.id")
	called := c.Remote[0]
	if id := c.Peer.Identity; !id.IsZero() && id.String() != called {
		x.need("peer.id", "Windows wants the gateway's certificate to have the name that is called, %s, and cannot be told to look for %s: the certificate must have both, or remote be the latter", called, quoted(id.String()))
	}
	if _, err := netip.ParseAddr(called); err == nil {
		x.need("remote", "Windows finds an address in a certificate only where it stands as a dNSName, as text: the gateway's must have %s so, or remote be a name", called)
	}
	if c.Keep != config.KeepManual {
		x.note("keep", "not carried over: the connection is opened by hand there")
	}
	x.note("", "Windows marks files from the network as blocked: Unblock-File takes that away")
}
