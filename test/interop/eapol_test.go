package interop

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/vendors/microsoft"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/eap"
)

// wpa_supplicant's eapol_test is the client of our EAP server here, over a RADIUS that only
// carries the packets: it has the methods on TLS that Debian's strongSwan lacks, TLS 1.3,
// and a look at the key.

const eapolSecret = "eapol secret"

// eapolFiles are certificates for both sides.
type eapolFiles struct {
	dir, ca, cert, key string
	server             *pki.Credential
	roots              []*x509.Certificate
}

func newEAPOLFiles(t *testing.T) *eapolFiles {
	t.Helper()
	now := time.Now()
	ca, err := pki.NewAuthority("EAP CA", now, 0, pki.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(r pki.Request) *pki.Credential {
		r.Now, r.Key = now, pki.ECDSAP256
		c, err := ca.Issue(r)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	f := &eapolFiles{dir: t.TempDir(), roots: []*x509.Certificate{ca.Cert}}
	f.server = issue(pki.Request{DNSNames: []string{"aaa.test"}, Purpose: pki.ServerAuth})
	client := issue(pki.Request{CommonName: user, Purpose: pki.ClientAuth})
	key, err := x509.MarshalPKCS8PrivateKey(client.Key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(f.dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	f.ca, f.cert, f.key = write("ca.pem", "CERTIFICATE", ca.Cert.Raw), write("client.pem", "CERTIFICATE", client.Cert.Raw), write("client.key", "PRIVATE KEY", key)
	return f
}

// eapolServer answers one client's RADIUS with our EAP server until the conversation is
// over.
func eapolServer(conn net.PacketConn, config eap.ServerConfig) (name string, err error) {
	var s *eap.Server
	b := make([]byte, 65536)
	for {
		n, from, err := conn.ReadFrom(b)
		if err != nil {
			return "", err
		}
		in, err := radius.Parse(b[:n], []byte(eapolSecret))
		if err != nil {
			return "", err
		}
		var st eap.Step
		if s == nil {
			config.SkipIdentity = rfc2865.UserName_GetString(in)
			s = eap.NewServer(config)
			defer s.Stop()
			st = s.Start()
		} else {
			st = s.Handle(rfc2869.EAPMessage_Get(in))
		}
		for st.Work != nil || st.Lookup != "" {
			switch {
			case st.Work != nil:
				st.Work()
				st = s.Resume()
			case st.Lookup == user:
				st = s.Account(&eap.Account{Password: suite.Secret(password)})
			default:
				st = s.Account(nil)
			}
		}
		out, err := eapolAnswer(in, st, s.MSK())
		if err != nil {
			return "", err
		}
		if _, err := conn.WriteTo(out, from); err != nil {
			return "", err
		}
		if st.Done {
			return s.Identity(), st.Err
		}
	}
}

func eapolAnswer(in *radius.Packet, st eap.Step, msk suite.Secret) ([]byte, error) {
	out := in.Response(radius.CodeAccessChallenge)
	switch {
	case st.Done && st.Err != nil:
		out.Code = radius.CodeAccessReject
	case st.Done:
		out.Code = radius.CodeAccessAccept
	}
	err := errors.Join(rfc2869.EAPMessage_Set(out, st.Send), rfc2865.State_Set(out, []byte{1}))
	if msk != nil {
		err = errors.Join(err, microsoft.MSMPPERecvKey_Set(out, msk[:32]), microsoft.MSMPPESendKey_Set(out, msk[32:]))
	}
	// The Message-Authenticator is computed over itself as zeros, with the request's
	// authenticator in the header (RFC 3579 §3.2).
	out.Attributes = append(radius.Attributes{{Type: rfc2869.MessageAuthenticator_Type, Attribute: make([]byte, md5.Size)}}, out.Attributes...)
	raw, err2 := out.MarshalBinary()
	if err = errors.Join(err, err2); err != nil {
		return nil, err
	}
	copy(raw[4:20], in.Authenticator[:])
	mac := hmac.New(md5.New, []byte(eapolSecret))
	mac.Write(raw)
	out.Attributes[0].Attribute = mac.Sum(nil)
	return out.Encode()
}

func TestEAPOL(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("eapol_test")
	if err != nil {
		t.Skip("eapol_test is not installed (Debian's package eapoltest)")
	}
	f := newEAPOLFiles(t)
	type scenario struct {
		method        eap.Type
		outer, inside string
	}
	var all []scenario
	for m, outer := range map[eap.Type]string{eap.TypeMSCHAPv2: "MSCHAPV2", eap.TypeMD5: "MD5", eap.TypeGTC: "GTC", eap.TypeTLS: "TLS"} {
		all = append(all, scenario{m, outer, ""})
	}
	for _, inside := range []string{"PAP", "MSCHAPV2", "EAP-MSCHAPV2", "EAP-MD5", "EAP-GTC", "EAP-TLS"} {
		all = append(all, scenario{eap.TypeTTLS, "TTLS", strings.Replace("auth="+inside, "auth=EAP-", "autheap=", 1)})
	}
	for _, inside := range []string{"MSCHAPV2", "MD5", "GTC", "TLS"} {
		all = append(all, scenario{eap.TypePEAP, "PEAP", "auth=" + inside})
	}
	for _, sc := range all {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			if version == tls.VersionTLS13 && !sc.method.Mutual() {
				continue
			}
			for _, wrong := range []bool{false, true} {
				withoutPassword := strings.Contains(sc.outer+sc.inside, "TLS") && (sc.outer == "TLS" || strings.HasSuffix(sc.inside, "TLS"))
				if wrong && withoutPassword {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%s/wrong=%v", sc.outer, sc.inside, tls.VersionName(version), wrong), func(t *testing.T) {
					f.play(t, program, sc.method, sc.outer, sc.inside, version, wrong)
				})
			}
		}
	}
}

func (f *eapolFiles) play(t *testing.T, program string, method eap.Type, outer, inside string, version uint16, wrong bool) {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	secret, old := password, 0
	if wrong {
		secret = "something else"
	}
	if version == tls.VersionTLS12 {
		old = 1
	}
	conf := filepath.Join(t.TempDir(), "eapol.conf")
	text := fmt.Sprintf(`network={
key_mgmt=WPA-EAP
eap=%s
identity="%s"
password="%s"
ca_cert="%s"
client_cert="%s"
private_key="%s"
ca_cert2="%[4]s"
client_cert2="%[5]s"
private_key2="%[6]s"
domain_match="aaa.test"
fragment_size=300
phase1="peapver=0 tls_disable_tlsv1_3=%d"
phase2="%s tls_disable_tlsv1_3=%[7]d"
}
`, outer, user, secret, f.ca, f.cert, f.key, old, inside)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	type end struct {
		name string
		err  error
	}
	over := make(chan end, 1)
	go func() {
		name, err := eapolServer(conn, eap.ServerConfig{
			Methods: []eap.Type{method}, Credentials: []*pki.Credential{f.server}, Verifier: pki.Verifier{Roots: f.roots, Now: time.Now()},
			Inner:  []eap.Type{eap.TypeMSCHAPv2, eap.TypeMD5, eap.TypeGTC, eap.TypeTLS, eap.TypePAP, eap.TypePlainMSCHAPv2},
			MinTLS: version, MaxTLS: version, FragmentSize: 400,
		})
		over <- end{name, err}
	}()
	args := []string{"-c", conf, "-a127.0.0.1", fmt.Sprintf("-p%d", conn.LocalAddr().(*net.UDPAddr).Port), "-s" + eapolSecret, "-t20"}
	if method == eap.TypeMD5 || method == eap.TypeGTC {
		args = append(args, "-n") // they make no key
	}
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	conn.Close()
	got := <-over
	if wrong {
		if err == nil || !errors.Is(got.err, &eap.Error{Code: eap.CodePassword}) {
			t.Errorf("eapol_test: %v, our server: %v", err, got.err)
		}
		return
	}
	// It compares its key with that of MS-MPPE-Recv-Key.
	if err != nil || got.err != nil || got.name != user || !strings.HasSuffix(strings.TrimSpace(string(out)), "SUCCESS") {
		t.Errorf("eapol_test: %v, our server: %v, for %q\n%s", err, got.err, got.name, out[max(0, len(out)-2000):])
	}
}
