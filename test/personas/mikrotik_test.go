package personas

import (
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// mikroTik is a RouterOS client with mode-config and a certificate, set up as the tutorials have
// it. Its own defaults are modp1024, SHA-1 and 3DES [K], which a gateway refuses; so the
// profile and the proposal are set to AES-256, SHA-256 and modp2048. The order of CREATE_CHILD_SA, with CP
// in it, is [S]; that of the first messages is not told: the plain one. No MOBIKE [K]. A
// proposal lives 30 minutes, a profile a day [K], of which it takes 80 % here.
func mikroTik() *device {
	return &device{
		name: "mikrotik", nonce: 24, init: "SA KE No NATD",
		ike: []string{"aes256-sha256-modp2048"}, esp: []string{"aes256-sha256-modp2048"},
		auth:  "IDi CERT CERTREQ AUTH CP INITIAL_CONTACT SA TSi TSr",
		cp:    []message.AttributeType{message.InternalIP4Address, message.InternalIP4Netmask, message.InternalIP4DNS},
		rekey: "SA KE No REKEY TSi TSr CP",
		// DPD is on: without it the IKE SA is never replaced [S].
		liveness: 2 * time.Minute, childAge: 24 * time.Minute, ikeAge: 1152 * time.Minute,
	}
}

func TestMikroTikSendsCPInRekey_R2(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		p := w.atHome(mikroTik(), w.devices())
		p.cred = w.issue(pki.Request{DNSNames: []string{"router.example.com"}, Purpose: pki.ClientAuth})
		p.id = pki.Identity{Type: pki.IDFQDN, Data: "router.example.com"}
		p.connect()
		address := p.address()
		p.rekeyChild(p.kids[0])
		if p.kids[0].suite.KE.ID != suite.KEMODP2048 || p.address() != address {
			t.Errorf("the new child has %v, the address is %v", p.kids[0].suite, p.address())
		}
		p.hangUp()
		comesAgain(p)
	})
}
