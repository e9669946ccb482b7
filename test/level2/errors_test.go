package level2

import (
	"errors"
	"strings"
	"testing"
	"time"

	"martlet"
	"martlet/config"
	"martlet/crypto/pki"
	"martlet/ike"
)

func TestFailuresAreExplainedOnBothSides(t *testing.T) {
	type peers struct{ gateway, client *config.Connection }
	certs := func(_ *world, p peers, people *people) {
		p.gateway.Local, p.client.Peer = people.gateway.local(), people.client.trusts("gateway.test")
		p.client.Local, p.gateway.Peer = people.client.local(), people.gateway.trusts("*@test")
	}
	yesterday := func() time.Time { return time.Now().Add(-48 * time.Hour) }
	for _, test := range []struct {
		name   string
		change func(w *world, p peers)
		code   ike.Code
		class  martlet.Class
		log    []string // of the gateway's one line
	}{
		{"wrong PSK", func(_ *world, p peers) {
			p.client.Local.Secret.Value = []byte("another pre-shared key than the gateway's")
			p.client.Peer.Secret = p.client.Local.Secret
		}, ike.CodeAuthRefused, martlet.ClassAuthentication, []string{"wrong-psk", "alice@test"}},
		{"unknown identity", func(_ *world, p peers) {
			p.client.Local.ID = "mallory@elsewhere"
		}, ike.CodeAuthRefused, martlet.ClassAuthentication, []string{"unknown-identity", "mallory@elsewhere"}},
		{"another gateway than expected", func(_ *world, p peers) {
			p.client.Peer.ID = "other.test"
		}, ike.CodeIdentity, martlet.ClassAuthentication, []string{"AUTHENTICATION_FAILED"}},
		{"no common IKE proposal", func(_ *world, p peers) {
			p.client.Proposals = []string{"aes128-sha1-modp2048"}
		}, ike.CodeNoProposal, martlet.ClassPolicy, []string{"no-proposal", "offers no IKE algorithms"}},
		{"no common ESP proposal", func(_ *world, p peers) {
			p.client.Children["net"].Proposals = []string{"aes128-sha1"}
		}, ike.CodeNoChildProposal, martlet.ClassPolicy, []string{"no-child-proposal"}},
		{"selectors that do not meet", func(_ *world, p peers) {
			p.client.Children["net"].Remote = []string{"172.16.0.0/12"}
		}, ike.CodeSelectors, martlet.ClassPolicy, []string{"ts-unacceptable", "172.16.0.0/12"}},
		{"certificate where a PSK is wanted", func(w *world, p peers) {
			p.client.Local = w.people(pki.ECDSAP256).client.local()
		}, ike.CodeAuthRefused, martlet.ClassAuthentication, []string{"auth-method"}},
		{"the client's CA is unknown", func(w *world, p peers) {
			certs(w, p, w.people(pki.ECDSAP256))
			p.client.Local = w.people(pki.ECDSAP256).client.local()
		}, ike.CodeAuthRefused, martlet.ClassAuthentication, []string{"cert-untrusted"}},
		{"the gateway's CA is unknown", func(w *world, p peers) {
			certs(w, p, w.people(pki.ECDSAP256))
			p.gateway.Local = w.people(pki.ECDSAP256).gateway.local()
		}, ike.CodeCertUntrusted, martlet.ClassAuthentication, []string{"AUTHENTICATION_FAILED"}},
		{"the client's certificate expired", func(w *world, p peers) {
			all := w.people(pki.ECDSAP256)
			all.client = w.issue(all.ca, pki.ECDSAP256, pki.Request{Emails: []string{"alice@test"}, Now: yesterday(), Validity: 24 * time.Hour})
			certs(w, p, all)
		}, ike.CodeAuthRefused, martlet.ClassAuthentication, []string{"cert-expired"}},
		{"the gateway's certificate expired", func(w *world, p peers) {
			all := w.people(pki.ECDSAP256)
			all.gateway = w.issue(all.ca, pki.ECDSAP256, pki.Request{DNSNames: []string{"gateway.test"}, Now: yesterday(), Validity: 24 * time.Hour})
			certs(w, p, all)
		}, ike.CodeCertExpired, martlet.ClassAuthentication, []string{"AUTHENTICATION_FAILED"}},
		{"the gateway's certificate is for another name", func(w *world, p peers) {
			all := w.people(pki.ECDSAP256)
			all.gateway = w.issue(all.ca, pki.ECDSAP256, pki.Request{DNSNames: []string{"other.test"}})
			certs(w, p, all)
			p.gateway.Local.ID = "gateway.test"
		}, ike.CodeCertName, martlet.ClassAuthentication, []string{"AUTHENTICATION_FAILED"}},
		{"the client's certificate is for another name", func(w *world, p peers) {
			all := w.people(pki.ECDSAP256)
			all.client = w.issue(all.ca, pki.ECDSAP256, pki.Request{Emails: []string{"bob@test"}})
			certs(w, p, all)
			p.client.Local.ID = "alice@test"
		}, ike.CodeAuthRefused, martlet.ClassAuthentication, []string{"cert-name-mismatch", "bob@test"}},
		{"the certificate of the gateway is a client's", func(w *world, p peers) {
			all := w.people(pki.ECDSAP256)
			all.gateway = w.issue(all.ca, pki.ECDSAP256, pki.Request{DNSNames: []string{"gateway.test"}, Purpose: pki.ClientAuth})
			certs(w, p, all)
		}, ike.CodeCertInvalid, martlet.ClassAuthentication, []string{"AUTHENTICATION_FAILED"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, 60, func(w *world) {
				g, c := gatewayConfig(), clientConfig()
				test.change(w, peers{g.Connections["clients"], c.Connections["office"]})
				gateway, client := w.gateway(g), w.client(c)
				err := client.Connect(w.Context(), "")
				e, ok := errors.AsType[*martlet.Error](err)
				if !ok {
					w.Fatalf("got %v, want an *Error", err)
				}
				if e.Code != test.code || e.Code.Class() != test.class {
					w.Errorf("code %s of class %d: %+v", e.Code, e.Code.Class(), e)
				}
				for name, line := range map[string]string{"what": e.What, "why": e.Why, "hint": e.Hint} {
					if line == "" || strings.Contains(line, "\n") {
						w.Errorf("the line %s is %q", name, line)
					}
				}
				client.clean()
				pass(2 * time.Minute)
				gateway.clean()
				lines := gateway.warnings()
				if len(lines) != 1 {
					w.Fatalf("the gateway's log has %d warnings, want one:\n%s", len(lines), strings.Join(lines, "\n"))
				}
				for _, want := range append(test.log, clientAddr.String(), `"what":`, `"why":`, `"hint":`) {
					if !strings.Contains(lines[0], want) {
						w.Errorf("the gateway's line lacks %q: %s", want, lines[0])
					}
				}
			})
		})
	}
}

func TestNoProposalShowsBothColumnsWhereBothAreKnown(t *testing.T) {
	inBubble(t, 61, func(w *world) {
		c := clientConfig()
		c.Connections["office"].Proposals = []string{"aes128-sha1-modp2048"}
		gateway, client := w.gateway(gatewayConfig()), w.client(c)
		err := client.Connect(w.Context(), "")
		e, ok := errors.AsType[*martlet.Error](err)
		if !ok || !strings.Contains(e.Detail, "aes128-sha1-modp2048") {
			w.Errorf("the client does not say what it offered: %#v", err)
		}
		text := gateway.text.String()
		for _, want := range []string{"offered", "accepted", "modp2048", "aes256gcm16"} {
			if !strings.Contains(text, want) {
				w.Errorf("the gateway's log lacks %q:\n%s", want, text)
			}
		}
	})
}
