package martlet

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"martlet/crypto/suite"
	"martlet/ike"
	"martlet/tun/privsep"
)

// keyLog writes Wireshark's tables "ikev2_decryption_table" and "esp_sa" into a
// folder. Whoever has them can read the traffic; it exists for debugging only.
type keyLog struct {
	mu       sync.Mutex
	ike, esp *os.File
}

// keyLogOf writes to tables that were opened, or tells why they were not.
func keyLogOf(tables [2]*os.File, err error) (*keyLog, error) {
	if e, ok := errors.AsType[*privsep.KeyTableError](err); ok {
		return nil, &Error{Code: ike.CodeHost, What: "keys are not written to " + e.Name, Why: e.Why, Hint: e.Hint}
	}
	if err != nil {
		return nil, fmt.Errorf("martlet: key log: %w", err)
	}
	return &keyLog{ike: tables[0], esp: tables[1]}, nil
}

func (k *keyLog) close() error { return errors.Join(k.ike.Close(), k.esp.Close()) }

// write adds one SA. What cannot be written is not there: traffic goes on.
func (k *keyLog) write(e ike.KeyLogEntry) {
	file := k.ike
	if e.Child != nil {
		file = k.esp
	}
	_ = k.lines(file, []byte(keyTableLines(e)))
}

// lines adds lines to one of the files.
func (k *keyLog) lines(file *os.File, lines []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, err := file.Write(lines)
	return err
}

// keyTableLines is one SA as a line of Wireshark's table, or two of a child SA: one for each
// direction. It is empty for an algorithm that Wireshark has no name for. An SA with
// additional key exchanges has several entries, of which Wireshark takes the last: it reads
// IKE_INTERMEDIATE only with the first one alone.
func keyTableLines(e ike.KeyLogEntry) string {
	if e.Child == nil {
		encr, integ := wiresharkIKE(e.Suite.Encr), wiresharkIKEInteg(e.Suite.Integ)
		if encr == "" || integ == "" {
			return ""
		}
		return fmt.Sprintf("%016x,%016x,%x,%x,\"%s\",%x,%x,\"%s\"\n", uint64(e.SPIi), uint64(e.SPIr),
			[]byte(e.SKei), []byte(e.SKer), encr, []byte(e.SKai), []byte(e.SKar), integ)
	}
	c := e.Child
	encr, integ := wiresharkESP(c.Suite.Encr), wiresharkESPInteg(c.Suite.Integ)
	if encr == "" || integ == "" {
		return ""
	}
	line := func(from, to netip.Addr, spi uint32, keys ike.ChildKeys) string {
		family := "IPv6"
		if from.Is4() {
			family = "IPv4"
		}
		return fmt.Sprintf("\"%s\",\"%v\",\"%v\",\"0x%08x\",\"%s\",\"0x%x\",\"%s\",\"%s\"\n",
			family, from, to, spi, encr, []byte(keys.Encr), integ, hexOrEmpty(keys.Integ))
	}
	here, there := c.Path.Local.Addr(), c.Path.Remote.Addr()
	return line(there, here, c.SPIIn, c.In) + line(here, there, c.SPIOut, c.Out)
}

func hexOrEmpty(b suite.Secret) string {
	if len(b) == 0 {
		return ""
	}
	return fmt.Sprintf("0x%x", []byte(b))
}

// Wireshark's names (epan/dissectors/packet-isakmp.c and packet-ipsec.c).
func wiresharkIKE(t suite.Transform) string {
	switch t.ID {
	case suite.EncrAESCBC:
		return fmt.Sprintf("AES-CBC-%d [RFC3602]", t.KeyLen)
	case suite.EncrAESCTR:
		return fmt.Sprintf("AES-CTR-%d [RFC5930]", t.KeyLen)
	case suite.EncrAESGCM8, suite.EncrAESGCM12, suite.EncrAESGCM16:
		return fmt.Sprintf("AES-GCM-%d with %d octet ICV [RFC5282]", t.KeyLen, icvOf(t.ID))
	}
	return ""
}

func icvOf(id uint16) int {
	switch id {
	case suite.EncrAESGCM8:
		return 8
	case suite.EncrAESGCM12:
		return 12
	}
	return 16
}

func wiresharkIKEInteg(t suite.Transform) string {
	switch t.ID {
	case suite.IntegNone:
		return "NONE [RFC4306]"
	case suite.IntegHMACSHA1_96:
		return "HMAC_SHA1_96 [RFC2404]"
	case suite.IntegHMACSHA2_256_128:
		return "HMAC_SHA2_256_128 [RFC4868]"
	case suite.IntegHMACSHA2_384_192:
		return "HMAC_SHA2_384_192 [RFC4868]"
	case suite.IntegHMACSHA2_512_256:
		return "HMAC_SHA2_512_256 [RFC4868]"
	}
	return ""
}

func wiresharkESP(t suite.Transform) string {
	switch t.ID {
	case suite.EncrAESCBC:
		return "AES-CBC [RFC3602]"
	case suite.EncrAESCTR:
		return "AES-CTR [RFC3686]"
	case suite.EncrAESGCM8, suite.EncrAESGCM12, suite.EncrAESGCM16:
		return fmt.Sprintf("AES-GCM with %d octet ICV [RFC4106]", icvOf(t.ID))
	case suite.EncrChaCha20Poly1305:
		return "ChaCha20 with Poly1305 [RFC7634]"
	}
	return ""
}

func wiresharkESPInteg(t suite.Transform) string {
	switch t.ID {
	case suite.IntegNone:
		return "NULL"
	case suite.IntegHMACSHA1_96:
		return "HMAC-SHA-1-96 [RFC2404]"
	case suite.IntegHMACSHA2_256_128:
		return "HMAC-SHA-256-128 [RFC4868]"
	case suite.IntegHMACSHA2_384_192:
		return "HMAC-SHA-384-192 [RFC4868]"
	case suite.IntegHMACSHA2_512_256:
		return "HMAC-SHA-512-256 [RFC4868]"
	}
	return ""
}
