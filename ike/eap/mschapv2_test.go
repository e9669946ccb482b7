package eap

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"martlet/crypto/suite"
)

// vectors reads a file of the vectors' folder.
func vectors(t testing.TB, name string, into any) {
	t.Helper()
	dir := os.Getenv("MARTLET_VECTORS")
	if dir == "" {
		dir = "../../../shared/vectors"
	}
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Skip("no vectors: set MARTLET_VECTORS to their folder: ", err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

func TestMSCHAPv2Vectors(t *testing.T) {
	v := map[string]string{}
	vectors(t, "eap/mschapv2_rfc2759_rfc3079.json", &v)
	octets := func(name string) []byte {
		b, err := hex.DecodeString(v[name])
		if err != nil || len(b) == 0 {
			t.Fatalf("no %s", name)
		}
		return b
	}
	same := func(name string, got []byte) {
		t.Helper()
		if !bytes.Equal(got, octets(name)) {
			t.Errorf("%s is %x", name, got)
		}
	}
	user, auth, peer := v["username"], octets("authenticator_challenge"), octets("peer_challenge")
	hash := ntHash(suite.Secret(v["password"]))
	response := ntResponse(auth, peer, user, hash)
	same("nt_password_hash", hash)
	same("password_hash_hash", md4Sum(hash))
	same("challenge_hash", challengeHash(peer, auth, user))
	same("nt_response", response)
	if got := "S=" + strings.ToUpper(hex.EncodeToString(authenticatorResponse(hash, response, peer, auth, user))); got != v["authenticator_response"] {
		t.Errorf("authenticator response %s", got)
	}
	receive, send := mschapKeys(hash, response)
	same("server_receive_key_128(=client send)", receive)
	same("server_send_key_128(RFC3079 SendStartKey128)", send)
	same("msk_64_octets_as_used_by_IKEv2_peers", mschapMSK(hash, response))
}

// TestMSCHAPv2WholeNameHashed: a peer that hashes the domain too is let in.
func TestMSCHAPv2WholeNameHashed(t *testing.T) {
	const user = `CORP\alice`
	s := NewServer(ServerConfig{})
	t.Cleanup(s.Stop)
	st := s.Start()
	st = s.Handle(newPacket(codeResponse, st.Send[1], TypeIdentity, []byte(user)))
	in, err := parseMSCHAP(st.Send[5:])
	if err != nil {
		t.Fatal(err)
	}
	own, hash := bytes.Repeat([]byte{7}, 16), ntHash(suite.Secret("wonderland"))
	r := mschapResponse{peerChallenge: own, response: ntResponse(in.value, own, user, hash)}
	st = s.Handle(newPacket(codeResponse, st.Send[1], TypeMSCHAPv2, appendMSCHAP(opResponse, in.id, r.value(), user)))
	if st.Lookup != user {
		t.Fatalf("looked up %q", st.Lookup)
	}
	st = s.Account(accounts(user))
	in, err = parseMSCHAP(st.Send[5:])
	if err != nil || in.op != opSuccess {
		t.Fatalf("%v, %+v", err, in)
	}
	proof, ok := mschapProof(in.rest)
	if !ok || !bytes.Equal(proof, authenticatorResponse(hash, r.response, own, s.method.(*mschapServer).challenge, user)) {
		t.Error("the proof does not hash the same name")
	}
}
