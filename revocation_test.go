package martlet

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"martlet/crypto/pki"
	"martlet/ike"
)

// registrar is a CA with an OCSP responder, and the files of a gateway and of Alice.
type registrar struct {
	t       *testing.T
	dir     string
	ca      *pki.Authority
	serial  map[string]string // of each certificate, by name
	revoked atomic.Value      // the serial number of what is
	server  *httptest.Server
}

func newRegistrar(t *testing.T) *registrar {
	t.Helper()
	r := &registrar{t: t, dir: t.TempDir(), serial: map[string]string{}}
	r.revoked.Store("")
	var err error
	if r.ca, err = pki.NewAuthority("Test CA", time.Now(), time.Hour, pki.ECDSAP256); err != nil {
		t.Fatal(err)
	}
	r.server = httptest.NewServer(http.HandlerFunc(r.respond))
	t.Cleanup(r.server.Close)
	r.ca.OCSP = []string{r.server.URL}
	r.write("ca.pem", pki.EncodeCertificate(r.ca.Cert))
	r.issue("gateway", pki.Request{DNSNames: []string{"gateway.test"}, Purpose: pki.ServerAuth})
	r.issue("alice", pki.Request{Emails: []string{"alice@test"}, Purpose: pki.ClientAuth})
	return r
}

func (r *registrar) write(name string, data []byte) {
	if err := os.WriteFile(filepath.Join(r.dir, name), data, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *registrar) issue(name string, q pki.Request) {
	q.Now, q.Key = time.Now(), pki.ECDSAP256
	c, err := r.ca.Issue(q)
	if err != nil {
		r.t.Fatal(err)
	}
	key, err := pki.EncodePrivateKey(c.Key)
	if err != nil {
		r.t.Fatal(err)
	}
	r.serial[name] = c.Cert.SerialNumber.String()
	r.write(name+".key", key)
	// The CA stands behind it, as an issuer is needed to ask about one's own.
	r.write(name+".pem", pki.EncodeCertificate(c.Cert, r.ca.Cert))
}

func (r *registrar) respond(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return
	}
	q, err := ocsp.ParseRequest(body)
	if err != nil {
		r.t.Error(err)
		return
	}
	answer := ocsp.Response{Status: ocsp.Good, SerialNumber: q.SerialNumber, ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	if q.SerialNumber.String() == r.revoked.Load() {
		answer.Status, answer.RevokedAt = ocsp.Revoked, time.Now()
	}
	der, err := ocsp.CreateResponse(r.ca.Cert, r.ca.Cert, answer, r.ca.Key)
	if err != nil {
		r.t.Error(err)
	}
	_, _ = w.Write(der)
}

func (r *registrar) gateway(peer string) *Node {
	return startNode(r.t, true, fmt.Sprintf(`
[node]
listen = ["127.0.0.1"]
ike_port = 0
nat_port = 0
[pool.v4]
addresses = ["10.77.0.0/24"]
[connection.clients]
pool = ["v4"]
local = { auth = "cert", cert = ["%[1]s/gateway.pem"], key = ["%[1]s/gateway.key"] }
peer = { auth = "cert", ca = ["%[1]s/ca.pem"]%[2]s }
child.net.local = ["10.77.0.1/32"]
`, r.dir, peer))
}

func (r *registrar) client(gateway *Node, peer string) *Node {
	at := gateway.Addresses()[0]
	return startNode(r.t, false, fmt.Sprintf(`
[connection.office]
remote = ["%s"]
port = %d
request = ["ipv4"]
local = { auth = "cert", cert = ["%[3]s/alice.pem"], key = ["%[3]s/alice.key"] }
peer = { auth = "cert", id = "gateway.test", ca = ["%[3]s/ca.pem"]%[4]s }
child.net.remote = ["10.77.0.0/24"]
`, at.Addr(), at.Port(), r.dir, peer))
}

// TestStapled: the gateway sends an OCSP response along (RFC 4806), so that a client which is
// strict comes up although the responder is gone.
func TestStapled(t *testing.T) {
	ctx := testContext(t)
	r := newRegistrar(t)
	gateway := r.gateway("")
	for _, alive := range []bool{true, false} {
		client := r.client(gateway, `, revocation = "strict"`)
		if err := client.Connect(ctx, ""); err != nil {
			t.Fatalf("responder alive %v: %v", alive, err)
		}
		if _, err := client.Ping(ctx, netip.MustParseAddr("10.77.0.1")); err != nil {
			t.Error(err)
		}
		r.server.Close()
	}
}

// TestRevokedByResponder: each side refuses what the responder calls revoked, and strict
// refuses where there is no responder.
func TestRevokedByResponder(t *testing.T) {
	for _, c := range []struct {
		name, revoked      string
		dead               bool
		byGateway, byAlice string
		want               ike.Code
	}{
		{"alice", "alice", false, `, revocation = "relaxed"`, "", ike.CodeAuthRefused},
		{"gateway", "gateway", false, "", `, revocation = "relaxed"`, ike.CodeCertRevoked},
		{"nobody asks", "gateway", false, "", "", ""},
		{"strict, dead", "", true, "", `, revocation = "strict"`, ike.CodeCertStatus},
		{"relaxed, dead", "", true, `, revocation = "relaxed"`, `, revocation = "relaxed"`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := testContext(t)
			r := newRegistrar(t)
			r.revoked.Store(r.serial[c.revoked])
			if c.dead {
				r.server.Close()
			}
			client := r.client(r.gateway(c.byGateway), c.byAlice)
			err := client.Connect(ctx, "")
			failure, _ := errors.AsType[*Error](err)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (failure == nil || failure.Code != c.want):
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}
