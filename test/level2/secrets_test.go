package level2

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"martlet"
	"martlet/config"
	"martlet/crypto/pki"
)

// disguises are the forms in which a secret may come out.
func disguises(secret []byte) []string {
	out := []string{string(secret), hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)), fmt.Sprint(secret)[1:]}
	spaced := fmt.Sprintf("% x", secret)
	out = append(out, spaced, strings.ReplaceAll(spaced, " ", ":"), new(big.Int).SetBytes(secret).String())
	for shift := range min(3, len(secret)-9) {
		// However it stands in what is encoded, whole groups of three octets look like this.
		part := secret[shift:]
		part = part[:len(part)/3*3]
		out = append(out, base64.StdEncoding.EncodeToString(part), base64.URLEncoding.EncodeToString(part))
	}
	return out
}

// shows tells whether a text shows a secret, or half of it.
func shows(text string, secret []byte) bool {
	for _, part := range [][]byte{secret, secret[:(len(secret)+1)/2], secret[len(secret)/2:]} {
		for _, d := range disguises(part) {
			if strings.Contains(text, strings.TrimSuffix(d, "]")) {
				return true
			}
		}
	}
	return false
}

func TestShowsFindsSecrets(t *testing.T) {
	secret := []byte("0123456789abcdefghijklmnop\x80\xff")
	for _, text := range []string{
		"x" + string(secret), fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), fmt.Sprintf("% x", secret), fmt.Sprintf("%v", secret),
		base64.StdEncoding.EncodeToString(secret), base64.RawURLEncoding.EncodeToString(append([]byte("x"), secret...)),
		fmt.Sprintf("%x", secret[:20]), "key=" + string(secret[5:]),
	} {
		if !shows(text, secret) {
			t.Errorf("not found in %q", text)
		}
	}
	if shows("nothing of it", secret) {
		t.Error("found in nothing")
	}
}

// privateParts are the octets of a private key that nobody may see.
func privateParts(t *testing.T, cred *pki.Credential) [][]byte {
	t.Helper()
	switch key := cred.Key.(type) {
	case *ecdsa.PrivateKey:
		d, err := key.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return [][]byte{d}
	case ed25519.PrivateKey:
		return [][]byte{key.Seed()}
	case *rsa.PrivateKey:
		return [][]byte{key.D.Bytes(), key.Primes[0].Bytes(), key.Primes[1].Bytes()}
	}
	t.Fatalf("a key of type %T", cred.Key)
	return nil
}

func TestNoSecretComesOut(t *testing.T) {
	for _, method := range []string{"psk", "rsa", "ecdsa", "ed25519"} {
		t.Run(method, func(t *testing.T) {
			inBubble(t, 110, func(w *world) {
				g, c := gatewayConfig(), clientConfig()
				secrets := [][]byte{[]byte(psk), []byte("the key that does not fit it")}
				if kind, ok := map[string]pki.KeyKind{"rsa": pki.RSA2048, "ecdsa": pki.ECDSAP256, "ed25519": pki.Ed25519}[method]; ok {
					all := w.people(kind)
					certified(g, c, all)
					secrets = append(privateParts(w.T, all.gateway.cred), privateParts(w.T, all.client.cred)...)
				}
				withChildren(g, c)
				g.Node.KeyLog, c.Node.KeyLog = w.TempDir(), w.TempDir()
				gateway, client := w.gateway(g), w.client(c)
				out := &bytes.Buffer{}
				note := func(what any) {
					text, err := json.Marshal(what)
					if err != nil {
						w.Fatal(err)
					}
					fmt.Fprintf(out, "%s\n%v\n%+v\n%#v\n", text, what, what, what)
				}
				events := []func() []martlet.Event{gateway.watch(), client.watch()}
				status := func() {
					note(gateway.Status())
					note(client.Status())
				}

				client.connect()
				status()
				if err := client.OpenChild(w.Context(), "office", "rare"); err != nil {
					w.Fatal(err)
				}
				talk(gateway, client)
				status()
				note(w.failing(method, g).Connect(w.Context(), ""))
				note(client.OpenChild(w.Context(), "office", "none"))
				client.host.Blackout(true)
				pass(2 * time.Minute)
				status()
				for _, ends := range events {
					for _, ev := range ends() {
						note(ev)
					}
				}
				for _, cfg := range []*config.Config{g, c} {
					note(cfg)
					secrets = append(secrets, w.keys(cfg)...)
				}
				if len(secrets) < 10 {
					w.Fatalf("only %d secrets to look for", len(secrets))
				}
				text := map[string]string{"what the API gives": out.String(), "the gateway's log": gateway.text.String(), "the client's log": client.text.String()}
				for where, all := range text {
					if len(all) < 1000 {
						w.Errorf("%s has only %d octets", where, len(all))
					}
					for _, secret := range secrets {
						if shows(all, secret) {
							w.Errorf("%s shows a secret of %d octets", where, len(secret))
						}
					}
				}
			})
		})
	}
}

// failing is a node that the gateway does not let in, for what it says then.
func (w *world) failing(method string, gateway *config.Config) *end {
	w.Helper()
	c := clientConfigOf("carol@test")
	local := &c.Connections["office"].Local
	if method == "psk" {
		local.Secret.Value = []byte("the key that does not fit it")
		c.Connections["office"].Peer.Secret = local.Secret
	} else {
		*local = w.people(pki.ECDSAP256).client.local()
		c.Connections["office"].Peer = config.Auth{
			Auth: "cert", ID: "gateway.test",
			Verifier: pki.Verifier{Roots: gateway.Connections["clients"].Peer.Verifier.Roots},
		}
	}
	return w.start(w.net.Host("carol", usual, privateAddr), c, false)
}
