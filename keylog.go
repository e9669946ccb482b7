package martlet

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"martlet/config"
	"martlet/crypto/suite"
	"martlet/ike"
)

// keyLog writes Wireshark's tables "ikev2_decryption_table" and "esp_sa" into a
// folder. Whoever has them can read the traffic; it exists for debugging only.
type keyLog struct {
	mu       sync.Mutex
	ike, esp *os.File
}

// keyTables are the names of Wireshark's tables: of IKE SAs and of child SAs.
var keyTables = [2]string{"ikev2_decryption_table", "esp_sa"}

func openKeyLog(dir string) (*keyLog, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("martlet: key log: %w", err)
	}
	var k keyLog
	var err error
	if k.ike, err = openKeyTable(filepath.Join(dir, keyTables[0])); err != nil {
		return nil, err
	}
	if k.esp, err = openKeyTable(filepath.Join(dir, keyTables[1])); err != nil {
		return nil, errors.Join(err, k.ike.Close())
	}
	return &k, nil
}

// openKeyTable opens a table to add to it, and makes it where there is none. One that others may
// read, or have put there, gets no key.
func openKeyTable(name string) (*os.File, error) {
	refused := func(why, hint string) (*os.File, error) {
		return nil, &Error{Code: ike.CodeHost, What: "keys are not written to " + name, Why: why, Hint: hint}
	}
	before, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return refused(err.Error(), "name a folder that you may write")
		}
		return file, nil
	case err != nil:
		return refused(err.Error(), "")
	case !before.Mode().IsRegular():
		return refused("it is no regular file", "remove it, or name another folder")
	case runtime.GOOS == "windows":
	case before.Mode().Perm()&0o077 != 0:
		return refused(fmt.Sprintf("group or others may use it (mode %04o)", before.Mode().Perm()), "chmod 600 "+name)
	case config.Owner(before) != os.Geteuid():
		return refused("it belongs to another user", "remove it, or name another folder")
	}
	file, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return refused(err.Error(), "")
	}
	if now, err := file.Stat(); err != nil || !os.SameFile(before, now) {
		_ = file.Close()
		return refused("somebody put another file in its place", "name a folder in which nobody else may write")
	}
	return file, nil
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
