package golden_test

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"testing"

	"martlet/crypto/suite"
	"martlet/ike/message"
	"martlet/test/golden"
)

// Next header values of ESP (RFC 4303 §2.6).
const (
	nextIPv4 = 4
	nextIPv6 = 41
	nextNone = 59
)

// badInner says what is wrong with the decrypted text of an ESP packet: its padding
// (RFC 4303 §2.4), or, in tunnel mode, the inner packet's version or length.
func badInner(text []byte, tunnel bool) string {
	if len(text) < 2 {
		return "no trailer"
	}
	pad, next := int(text[len(text)-2]), text[len(text)-1]
	if pad > len(text)-2 {
		return "pad length is too large"
	}
	inner, padding := text[:len(text)-2-pad], text[len(text)-2-pad:len(text)-2]
	for i, b := range padding {
		if int(b) != i+1 {
			return "padding is not 1, 2, 3 …"
		}
	}
	switch {
	case next == nextIPv4 && len(inner) >= 20 && inner[0]>>4 == 4:
		if int(binary.BigEndian.Uint16(inner[2:])) != len(inner) {
			return "inner IPv4 packet has another length"
		}
	case next == nextIPv6 && len(inner) >= 40 && inner[0]>>4 == 6:
		if int(binary.BigEndian.Uint16(inner[4:]))+40 != len(inner) {
			return "inner IPv6 packet has another length"
		}
	case !tunnel && (next == nextNone || len(inner) > 0):
	default:
		return "no IP packet inside"
	}
	return ""
}

// TestWiresharkIKE opens every SK payload of the NCP client's three sessions, with
// AES-GCM, AES-CTR and AES-CBC.
func TestWiresharkIKE(t *testing.T) {
	dir := filepath.Join(golden.Vectors(t), "captures", "wireshark-wiki", "ikev2-natt-gcm-ctr-cbc")
	packets, err := golden.ReadCapture(filepath.Join(dir, "capture.pcapng"))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := golden.ReadIKEKeys(filepath.Join(dir, "ikev2_decryption_table"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		i, errI := suite.NewCipher(k.Encr, k.Integ, k.SKei, k.SKai)
		r, errR := suite.NewCipher(k.Encr, k.Integ, k.SKer, k.SKar)
		if errI != nil || errR != nil {
			t.Fatal(errI, errR)
		}
		opened := 0
		for _, p := range packets {
			raw, ok := p.IKE()
			if !ok {
				continue
			}
			h, err := message.ParseHeader(raw)
			if err != nil {
				t.Fatal(err)
			}
			if h.SPIi != message.SPI(k.SPIi) || h.Exchange == message.IKESAInit {
				continue
			}
			c := r
			if h.FromInitiator() {
				c = i
			}
			_, e, text, err := message.Open(bytes.Clone(raw), c)
			if err != nil {
				t.Errorf("%s: %v %d: %v", k.EncrName, h.Exchange, h.MessageID, err)
				continue
			}
			ps, err := message.ParsePayloads(e.First, text)
			if err != nil {
				t.Errorf("%s: %v %d: %v", k.EncrName, h.Exchange, h.MessageID, err)
			}
			if again := message.AppendPayloads(nil, ps); !bytes.Equal(again, text) {
				t.Errorf("%s: %v %d is appended otherwise:\n%x\n%x", k.EncrName, h.Exchange, h.MessageID, text, again)
			}
			opened++
		}
		t.Logf("%s: %d messages opened", k.EncrName, opened)
		if opened < 4 {
			t.Errorf("%s: a whole session has more messages", k.EncrName)
		}
	}
}

// TestWiresharkESP opens the ESP packets of Wireshark's samples whose algorithms we
// have. Number 1 is transport mode, 2 is nested; 3 and 5 are not here because they
// are Blowfish and Twofish only.
func TestWiresharkESP(t *testing.T) {
	for name, want := range map[string]int{
		"ikev2-natt-gcm-ctr-cbc": 24,
		"ipsec_esp_capture_1":    20,
		"ipsec_esp_capture_2":    312,
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(golden.Vectors(t), "captures", "wireshark-wiki", name)
			files, err := filepath.Glob(filepath.Join(dir, "capture.pcap*"))
			if err != nil || len(files) != 1 {
				t.Fatalf("captures %v, %v; want one", files, err)
			}
			packets, err := golden.ReadCapture(files[0])
			if err != nil {
				t.Fatal(err)
			}
			keys, err := golden.ReadESPKeys(filepath.Join(dir, "esp_sa"))
			if err != nil {
				t.Fatal(err)
			}
			opened, others := 0, 0
			for _, p := range packets {
				raw, ok := p.ESP()
				if !ok || len(raw) < 8 {
					continue
				}
				k, ok := findKeys(keys, p, binary.BigEndian.Uint32(raw))
				c, err := suite.NewCipher(k.Encr, k.Integ, k.EncrKey, k.IntegKey)
				if !ok || !k.Supported() || err != nil {
					others++
					continue
				}
				text, err := c.Open(bytes.Clone(raw), 8, suite.ESN{})
				if err != nil {
					t.Errorf("%v to %v, SPI %#x: %v", p.Src, p.Dst, binary.BigEndian.Uint32(raw), err)
					continue
				}
				if reason := badInner(text, false); reason != "" {
					t.Errorf("%v to %v: %s: %x", p.Src, p.Dst, reason, text)
				}
				opened++
			}
			t.Logf("%d packets opened, %d with algorithms that we do not have", opened, others)
			if opened != want {
				t.Errorf("%d packets opened, want %d", opened, want)
			}
		})
	}
}

// findKeys is the line of the table that fits a packet.
func findKeys(keys []golden.ESPKeys, p golden.Packet, spi uint32) (golden.ESPKeys, bool) {
	for _, k := range keys {
		if (k.AnySPI || k.SPI == spi) &&
			(k.Src == "*" || k.Src == p.Src.Addr().String()) && (k.Dst == "*" || k.Dst == p.Dst.Addr().String()) {
			return k, true
		}
	}
	return golden.ESPKeys{}, false
}
