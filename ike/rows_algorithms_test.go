package ike

import (
	"strings"
	"testing"
	"time"

	"martlet/crypto/suite"
)

// offerable is the names of all transforms of a type that a configuration may name.
func offerable(kind suite.TransformType, with func(name string) string) (out []string) {
	for id := range uint16(60) {
		for _, bits := range []uint16{0, 128, 192, 256} {
			name := suite.Transform{Type: kind, ID: id, KeyLen: bits}.String()
			if strings.Contains(name, "=") { // it has no name
				continue
			}
			if name == "modpnone" { // no exchange: what is offered beside the others to make them optional
				continue
			}
			if _, err := suite.ParseProposal(suite.ProtocolIKE, with(name)); err == nil {
				out = append(out, with(name))
			}
		}
	}
	return out
}

// TestRow47EveryAlgorithm: what can be negotiated can also be done: an IKE SA and a child
// with each cipher, PRF, integrity and key exchange that a configuration can name come up,
// are rekeyed, and agree on their keys.
func TestRow47EveryAlgorithm(t *testing.T) {
	aead := func(s string) string { return s + "-prfsha256-x25519" }
	mac := func(s string) string { return s + "-sha256-x25519" }
	var all []string
	for _, kind := range []struct {
		t     suite.TransformType
		with  func(string) string
		least int
	}{
		{suite.TypeEncr, aead, 8},
		{suite.TypeEncr, mac, 5},
		{suite.TypePRF, func(s string) string { return "aes256gcm16-" + s + "-x25519" }, 3},
		{suite.TypeInteg, func(s string) string { return "aes256-" + s + "-x25519" }, 3},
		{suite.TypeKE, func(s string) string { return "aes256gcm16-prfsha256-" + s }, 8},
		{suite.TypeKE, func(s string) string { return "aes256gcm16-prfsha256-x25519-ke1_" + s }, 8},
	} {
		names := offerable(kind.t, kind.with)
		if len(names) < kind.least {
			t.Errorf("only %v", names)
		}
		all = append(all, names...)
	}
	for _, proposal := range all {
		t.Run(proposal, func(t *testing.T) {
			client, gateway := pskPair(t)
			esp := strings.Replace(proposal, "-prfsha256", "", 1)
			for _, c := range []*Connection{client, gateway} {
				c.Proposals = ikeProposals(t, proposal)
				if p, err := suite.ParseProposal(suite.ProtocolESP, esp); err == nil {
					c.Children[0].Proposals = []suite.Proposal{p}
				}
			}
			w, a, b := up(t, client, gateway)
			rekeyChild(b)
			rekeyIKE(a)
			w.run(10 * time.Second)
			rekeyChild(a)
			w.run(10 * time.Second)
			agree(t, a, b, 1)
			if len(found[Rekeyed](a)) != 1 || len(found[RekeyFailed](a))+len(found[RekeyFailed](b)) != 0 {
				t.Error("not rekeyed")
			}
			if got := a.established()[0].Suite; !got.Narrows(client.Proposals[0]) {
				t.Errorf("suite %v", got)
			}
		})
	}
}
