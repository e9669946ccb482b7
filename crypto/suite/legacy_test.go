package suite

import "testing"

// What legacy peers offer as they are installed, and what is refused even to them.
func TestLegacy(t *testing.T) {
	parse := func(p Protocol, text string) Proposal {
		x, err := ParseProposal(p, text)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	for _, test := range []struct {
		legacy   Legacy
		protocol Protocol
		offer    string
		taken    bool
	}{
		{LegacyNone, ProtocolIKE, "aes256-sha256-modp1024", false},
		{LegacyNone, ProtocolESP, "aes256-sha1", false},
		{LegacyWindows, ProtocolIKE, "aes256-sha256-modp1024", true},
		{LegacyWindows, ProtocolIKE, "aes128-sha1-modp1024", true},
		{LegacyWindows, ProtocolIKE, "aes256-sha384-modp1024", true},
		{LegacyWindows, ProtocolIKE, "aes256-sha256-modp1536", false},
		{LegacyWindows, ProtocolESP, "aes256-sha1", true},
		{LegacyCloud, ProtocolIKE, "aes256-sha1-modp1024", true},
		{LegacyCloud, ProtocolIKE, "aes256-sha384-modp1024", false},
		{LegacyCloud, ProtocolESP, "aes128-sha1", true},
		{LegacyCloud, ProtocolESP, "aes256-sha256-modp2048", true},
		{LegacyCloud, ProtocolESP, "aes256-sha1-modp1024", false},
	} {
		accept := test.legacy.IKE()
		if test.protocol == ProtocolESP {
			accept = test.legacy.ESP()
		}
		_, err := Select([]Proposal{parse(test.protocol, test.offer)}, accept, false)
		if taken := err == nil; taken != test.taken {
			t.Errorf("%d: %s: %v", test.legacy, test.offer, err)
		}
	}
	for _, l := range []Legacy{LegacyWindows, LegacyCloud} {
		for _, p := range append(l.IKE(), l.ESP()...) {
			if len(p.Weak()) == 0 {
				t.Errorf("%v has no warning", p)
			}
		}
	}
}
