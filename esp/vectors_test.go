package esp

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"martlet/crypto/suite"
)

// vectors opens a file of the folder that MARTLET_VECTORS names, or skips the test.
func vectors(t *testing.T, name string) *os.File {
	t.Helper()
	root := os.Getenv("MARTLET_VECTORS")
	if root == "" {
		root = filepath.Join("..", "..", "shared", "vectors")
	}
	f, err := os.Open(filepath.Join(root, name))
	if err != nil {
		t.Skipf("no test vectors: %v (set MARTLET_VECTORS)", err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func readJSON(t *testing.T, name string, v any) {
	t.Helper()
	if err := json.NewDecoder(vectors(t, name)).Decode(v); err != nil {
		t.Fatal(err)
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestVectorsDPDK opens the packets of DPDK's IPsec tests, and where the IV is free to
// choose, makes them again.
func TestVectorsDPDK(t *testing.T) {
	var file struct {
		Vectors []struct {
			Name     string
			Key      string
			AuthKey  string `json:"auth_key"`
			Salt     string
			IV       string
			Inner    string `json:"inner_or_plain_packet"`
			Packet   string `json:"protected_packet"`
			Algos    []string
			DigestIn []string `json:"digest_length"`
		}
	}
	readJSON(t, "esp-packets/dpdk_ipsec_packets.json", &file)
	ran := 0
	for _, v := range file.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			var k Keys
			key := unhex(t, v.Key)
			bits := uint16(len(key) * 8)
			switch v.Algos[0] {
			case "RTE_CRYPTO_AEAD_AES_GCM":
				k.Encr = suite.Transform{Type: suite.TypeEncr, ID: suite.EncrAESGCM16, KeyLen: bits}
			case "RTE_CRYPTO_CIPHER_AES_CBC":
				k.Encr = suite.Transform{Type: suite.TypeEncr, ID: suite.EncrAESCBC, KeyLen: bits}
			case "RTE_CRYPTO_CIPHER_AES_CTR":
				k.Encr = suite.Transform{Type: suite.TypeEncr, ID: suite.EncrAESCTR, KeyLen: bits}
			default:
				t.Skip("not an algorithm of ours: ", v.Algos)
			}
			if len(v.Algos) > 1 {
				switch v.Algos[1] {
				case "RTE_CRYPTO_AUTH_SHA256_HMAC":
					k.Integ = sha256t
				case "RTE_CRYPTO_AUTH_SHA384_HMAC":
					k.Integ = sha384t
				case "RTE_CRYPTO_AUTH_SHA512_HMAC":
					k.Integ = sha512t
				default:
					t.Skip("not an algorithm of ours: ", v.Algos)
				}
				k.IntegKey = unhex(t, v.AuthKey)
			}
			k.EncrKey = append(key, unhex(t, v.Salt)...)
			outer := unhex(t, v.Packet)
			header := 20
			if outer[0]>>4 == 6 {
				header = 40
			}
			esp, inner := outer[header:], unhex(t, v.Inner)
			in, err := NewInbound(k, 0)
			if err != nil {
				t.Fatal(err)
			}
			out, err := NewOutbound(k)
			if err != nil {
				t.Fatal(err)
			}
			if k.Encr.ID != suite.EncrAESCBC {
				sameText := seal(t, out, inner)
				text, err := in.cipher.Open(sameText, headLen, suite.ESN{})
				if err != nil {
					t.Fatal(err)
				}
				again := slices.Clone(esp)
				copy(again[out.lead:], text)
				iv := unhex(t, v.IV)
				out.cipher.Seal(again, headLen, uint64FromBytes(iv), suite.ESN{})
				if !bytes.Equal(again, esp) {
					t.Errorf("sealed\n%x, want\n%x", again, esp)
				}
			}
			got, err := in.Open(slices.Clone(esp))
			if err != nil || !bytes.Equal(got, inner) {
				t.Fatalf("open: %v\n%x, want\n%x", err, got, inner)
			}
			ran++
		})
	}
	if ran != 12 {
		t.Errorf("%d vectors ran, want the 12 of AES-GCM, AES-CBC and AES-CTR with SHA-2", ran)
	}
}

func uint64FromBytes(b []byte) (n uint64) {
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

// TestVectorsLinux opens packets that Linux XFRM made. Those without integrity are
// given ours, so that what Linux encrypted is decrypted.
func TestVectorsLinux(t *testing.T) {
	var file struct {
		Vectors []struct {
			Test    string
			Args    string   `json:"sa_args"`
			Command []string `json:"linux_cmd"`
			SPI     string   `json:"esp_spi"`
			Seq     string   `json:"esp_seq"`
			Payload string   `json:"esp_payload_after_seq"`
		}
	}
	readJSON(t, "esp-packets/linux_xfrm_refs_from_scapy.json", &file)
	keyOf := regexp.MustCompile(`'0x([0-9a-f]+)'`)
	ran := 0
	for _, v := range file.Vectors {
		t.Run(v.Test, func(t *testing.T) {
			number := func(s string) uint32 {
				n, err := strconv.ParseUint(s, 0, 32)
				if err != nil {
					t.Fatal(err)
				}
				return uint32(n)
			}
			k := Keys{SPI: number(v.SPI), ESN: strings.Contains(v.Args, "esn_en = True")}
			pkt := make([]byte, 8)
			putHeader(pkt, k.SPI, number(v.Seq))
			pkt = append(pkt, unhex(t, v.Payload)...)
			k.EncrKey = unhex(t, keyOf.FindStringSubmatch(v.Command[0])[1])
			macKey := bytes.Repeat([]byte{7}, 32)
			authenticate := func() {
				k.Integ, k.IntegKey = sha256t, macKey
				m := hmac.New(sha256.New, macKey)
				m.Write(pkt)
				pkt = append(pkt, m.Sum(nil)[:16]...)
			}
			switch {
			case strings.Contains(v.Args, "crypt_algo='AES-GCM'"):
				k.Encr = gcm128
			case strings.Contains(v.Args, "crypt_algo='AES-CBC'"):
				k.Encr = cbc128
				authenticate()
			case strings.Contains(v.Args, "crypt_algo='AES-CTR'"):
				k.Encr = ctr128
				authenticate()
			default:
				t.Skip("not an algorithm of ours: ", v.Args)
			}
			in, err := NewInbound(k, 0)
			if err != nil {
				t.Fatal(err)
			}
			if k.ESN {
				in.window.top = 1 << 32
			}
			payload, next, _, err := in.decrypt(pkt)
			if err != nil {
				t.Fatal(err)
			}
			if _, n, ok := parse(payload); next != protoIPv4 || !ok || n != len(payload) {
				t.Errorf("next header %d, inner packet %x", next, payload)
			}
			ran++
		})
	}
	if ran != 4 {
		t.Errorf("%d vectors ran, want CBC, CTR, GCM and GCM with ESN", ran)
	}
}

func putHeader(b []byte, spi, seq uint32) {
	for i := range 4 {
		b[i], b[4+i] = byte(spi>>(24-8*i)), byte(seq>>(24-8*i))
	}
}

// TestVectorsRFC7634 is appendix A of RFC 7634.
func TestVectorsRFC7634(t *testing.T) {
	var file struct {
		Vectors []struct {
			Name, Key, Salt, SPI, IV string
			Inner                    string `json:"inner_packet"`
			ESP                      string `json:"esp_packet"`
		}
	}
	readJSON(t, "esp-packets/rfc7634_chacha20poly1305.json", &file)
	for _, v := range file.Vectors {
		if v.ESP == "" {
			continue // appendix B is IKE's
		}
		in, err := NewInbound(Keys{Encr: chacha, EncrKey: append(unhex(t, v.Key), unhex(t, v.Salt)...)}, 0)
		if err != nil {
			t.Fatal(err)
		}
		got, err := in.Open(unhex(t, v.ESP))
		if err != nil || !bytes.Equal(got, unhex(t, v.Inner)) {
			t.Errorf("%s: %v\n%x, want\n%s", v.Name, err, got, v.Inner)
		}
		if in.Sequence() != 5 {
			t.Errorf("%s: sequence number %d", v.Name, in.Sequence())
		}
		return
	}
	t.Error("no ESP vector in the file")
}

// TestGoldenESP opens every ESP packet that strongSwan sent in the golden transcripts
// and whose keys are in Wireshark's table beside it.
func TestGoldenESP(t *testing.T) {
	root := vectors(t, "captures/strongswan6-golden")
	entries, err := os.ReadDir(root.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Run(e.Name(), func(t *testing.T) {
			dir := filepath.Join(root.Name(), e.Name())
			sas := goldenSAs(t, filepath.Join(dir, "esp_sa"))
			opened, unknown := 0, 0
			for _, pkt := range goldenESP(t, filepath.Join(dir, "capture.pcap")) {
				in := sas[uint32(uint64FromBytes(pkt[:4]))]
				if in == nil {
					unknown++
					continue
				}
				inner, err := in.Open(pkt)
				if err != nil {
					t.Fatalf("packet %d of SPI %#x: %v", in.Sequence()+1, in.spi, err)
				}
				if len(inner) < 20 {
					t.Fatalf("inner packet of %d octets", len(inner))
				}
				opened++
			}
			if len(sas) == 0 {
				t.Skip("no ESP SA in this transcript")
			}
			if unknown > 0 || opened == 0 {
				t.Errorf("%d packets opened, %d of SPIs that the table does not have", opened, unknown)
			}
			t.Logf("%d packets opened", opened)
		})
	}
}

func goldenSAs(t *testing.T, name string) map[uint32]*Inbound {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	sas := make(map[uint32]*Inbound)
	for _, row := range rows {
		spi, err := strconv.ParseUint(row[3], 0, 32)
		if err != nil {
			t.Fatal(err)
		}
		k := Keys{SPI: uint32(spi), EncrKey: unhex(t, row[5][2:])}
		switch {
		case strings.HasPrefix(row[4], "AES-GCM with 16"):
			k.Encr = suite.Transform{Type: suite.TypeEncr, ID: suite.EncrAESGCM16, KeyLen: uint16(len(k.EncrKey)-4) * 8}
		case strings.HasPrefix(row[4], "AES-CBC"):
			k.Encr = suite.Transform{Type: suite.TypeEncr, ID: suite.EncrAESCBC, KeyLen: uint16(len(k.EncrKey)) * 8}
		default:
			t.Skipf("not an algorithm of ours: %s", row[4])
		}
		if strings.HasPrefix(row[6], "HMAC-SHA-256-128") {
			k.Integ, k.IntegKey = sha256t, unhex(t, row[7][2:])
		}
		in, err := NewInbound(k, 0)
		if err != nil {
			t.Fatal(err)
		}
		sas[k.SPI] = in
	}
	return sas
}

// goldenESP returns the ESP packets of a capture, those in UDP.
func goldenESP(t *testing.T, name string) [][]byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var list [][]byte
	for {
		data, _, err := r.ReadPacketData()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		p := gopacket.NewPacket(data, r.LinkType(), gopacket.Default)
		udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok || udp.SrcPort != 4500 && udp.DstPort != 4500 {
			continue
		}
		if b := udp.Payload; len(b) > 8 && uint64FromBytes(b[:4]) != 0 {
			list = append(list, slices.Clone(b))
		}
	}
}
