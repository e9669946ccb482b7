package personas

import (
	"net/netip"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// SLOTH: a signature by method 1, with SHA-1, is taken from who announces nothing better, and not
// at all where the file is strict.
func TestRow38SHA1InAUTH(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		what, line, init string
		taken            bool
	}{
		{"Apple, who announces nothing", "", "SA KE No NATD FRAG", true},
		{"the same where the file is strict", "strict = true", "SA KE No NATD FRAG", false},
		{"who announces SHA-2 and then signs with SHA-1", "", "SA KE No NATD FRAG HASHES", false},
	} {
		inBubble(t, func(w *world) {
			d := appleProfile()
			d.init = test.init
			p := w.atHome(d, w.devices(test.line))
			p.cred = w.issue(pki.Request{DNSNames: []string{"ipad.example.com"}, Purpose: pki.ClientAuth})
			p.id = pki.Identity{Type: pki.IDFQDN, Data: "ipad.example.com"}
			if n := p.initiate(); n != nil {
				t.Fatal(n.Notify)
			}
			n := p.login()
			if taken := n == nil; taken != test.taken || !taken && n.Notify != message.AuthenticationFailed {
				t.Errorf("%s: %v", test.what, n)
			}
		})
	}
}

// Logjam: weak groups are refused, be all else the best; legacy_test.go of the configuration has
// what a file can name.
func TestRow38WeakGroups(t *testing.T) {
	t.Parallel()
	for _, group := range []uint16{1, 2, 5, 22, 23, 24} {
		inBubble(t, func(w *world) {
			g := w.devices()
			p := w.atHome(appleProfile(), g)
			p.to = netip.AddrPortFrom(gatewayAddr, 500)
			s := &sa{initiator: true, spii: newSPI()}
			offered := offer(suite.ProtocolIKE, nil, "aes256gcm16-prfsha384", "aes256-sha256")
			for i := range offered {
				offered[i].Transforms = append(offered[i].Transforms, suite.Transform{Type: suite.TypeKE, ID: group})
			}
			parts := p.initParts(s.spii, 0)
			parts["SA"] = []message.Payload{&message.SA{Proposals: offered}}
			parts["KE"] = []message.Payload{&message.KE{Method: group, Data: random(256)}}
			parts["No"] = []message.Payload{&message.Nonce{Data: random(32)}}
			m := message.Message{Header: s.header(message.IKESAInit, 0, false), Payloads: p.lay("SA KE No NATD", parts)}
			p.send(m.Append(nil))
			answer := p.initAnswer(s)
			if answer.Notify(message.NoProposalChosen) == nil {
				t.Errorf("group %d: %v", group, answer.Payloads)
			}
			pass(time.Second)
			g.empty()
		})
	}
}
