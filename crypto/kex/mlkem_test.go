package kex

import (
	"bytes"
	"crypto/mlkem"
	"testing"

	"martlet/crypto/suite"
)

// mlkemWithSeed is the initiator with the private key that a seed of 64 octets makes.
func mlkemWithSeed(method uint16, seed []byte) (Initiator, error) {
	switch method {
	case suite.KEMLKEM768:
		key, err := mlkem.NewDecapsulationKey768(seed)
		if err != nil {
			return nil, err
		}
		return initiator{method, mlkemPair{key.Decapsulate, key.EncapsulationKey().Bytes()}}, nil
	case suite.KEMLKEM1024:
		key, err := mlkem.NewDecapsulationKey1024(seed)
		if err != nil {
			return nil, err
		}
		return initiator{method, mlkemPair{key.Decapsulate, key.EncapsulationKey().Bytes()}}, nil
	}
	return nil, errNotMLKEM
}

func TestWycheproofMLKEM(t *testing.T) {
	for _, tt := range []struct {
		file   string
		method uint16
	}{
		{"mlkem_768", suite.KEMLKEM768},
		{"mlkem_1024", suite.KEMLKEM1024},
	} {
		type tests struct {
			NumberOfTests int
			TestGroups    []struct {
				Tests []struct {
					TcID           int
					Result         string
					Seed, EK, C, K octets
				}
			}
		}
		valid, all := 0, 0
		file := readJSON[tests](t, "wycheproof/"+tt.file+"_test.json.gz")
		for _, g := range file.TestGroups {
			for _, v := range g.Tests {
				all++
				i, err := mlkemWithSeed(tt.method, v.Seed)
				if err != nil {
					if v.Result == "valid" {
						t.Errorf("%s, case %d: %v", tt.file, v.TcID, err)
					}
					continue
				}
				got, err := i.Finish(v.C)
				if v.Result != "valid" {
					if err == nil && bytes.Equal(got, v.K) {
						t.Errorf("%s, case %d: taken", tt.file, v.TcID)
					}
					continue
				}
				valid++
				if err != nil || !bytes.Equal(got, v.K) || len(v.EK) > 0 && !bytes.Equal(i.Public(), v.EK) {
					t.Errorf("%s, case %d: %x, %v; want %x", tt.file, v.TcID, got, err, v.K)
				}
			}
		}
		if valid == 0 || all != file.NumberOfTests {
			t.Errorf("%s: %d cases, %d of them valid, want %d", tt.file, all, valid, file.NumberOfTests)
		}
		// Encapsulation keys that FIPS 203 §7.2 refuses.
		refused := 0
		for _, g := range readJSON[tests](t, "wycheproof/"+tt.file+"_encaps_test.json.gz").TestGroups {
			for _, v := range g.Tests {
				public, secret, err := Respond(tt.method, v.EK)
				if (err == nil) != (v.Result == "valid") {
					t.Errorf("%s, encapsulation %d (%s): %v", tt.file, v.TcID, v.Result, err)
				}
				if err != nil {
					refused++
				} else if len(public) != ReplyLen(tt.method) || len(secret) != 32 {
					t.Errorf("%s, encapsulation %d: %d and %d octets", tt.file, v.TcID, len(public), len(secret))
				}
			}
		}
		if refused == 0 {
			t.Errorf("%s: no encapsulation key is refused", tt.file)
		}
	}
}

func TestStrongswanMLKEM(t *testing.T) {
	methods := map[string]uint16{"ML_KEM_768": suite.KEMLKEM768, "ML_KEM_1024": suite.KEMLKEM1024}
	file := readJSON[struct {
		Vectors map[string][]struct {
			Name, Method string
			Shared       octets
			PubI         octets `json:"pub_i"`
			PubR         octets `json:"pub_r"`
		}
	}](t, "primitives/strongswan_test_vectors.json")
	for _, v := range file.Vectors["ml_kem"] {
		method, ok := methods[v.Method]
		if !ok {
			if v.Method != "ML_KEM_512" {
				t.Errorf("%s is not tested", v.Method)
			}
			continue
		}
		if len(v.PubI) != PublicLen(method) || len(v.PubR) != ReplyLen(method) || len(v.Shared) != 32 {
			t.Errorf("%s: %d, %d and %d octets on the wire", v.Name, len(v.PubI), len(v.PubR), len(v.Shared))
		}
		if _, _, err := Respond(method, v.PubI); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
	}
}
