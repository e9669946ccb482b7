package golden

import (
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"

	"martlet/crypto/suite"
)

// IKEKeys is a line of Wireshark's ikev2_decryption_table.
type IKEKeys struct {
	SPIi, SPIr               uint64
	SKei, SKer, SKai, SKar   []byte // SK_ei and SK_er with the salt, where there is one
	Encr, Integ              suite.Transform
	EncrName, IntegName      string
	encrSupported, integSupp bool
}

// Supported tells whether Encr and Integ are algorithms of package suite.
func (k IKEKeys) Supported() bool { return k.encrSupported && k.integSupp }

// ESPKeys is a line of Wireshark's esp_sa.
type ESPKeys struct {
	Src, Dst                 string // address, or * for any
	SPI                      uint32
	AnySPI                   bool
	EncrKey, IntegKey        []byte // EncrKey with the salt, where there is one
	Encr, Integ              suite.Transform
	EncrName, IntegName      string
	encrSupported, integSupp bool
}

// Supported tells whether Encr and Integ are algorithms of package suite.
func (k ESPKeys) Supported() bool { return k.encrSupported && k.integSupp }

// ReadIKEKeys reads an ikev2_decryption_table.
func ReadIKEKeys(file string) ([]IKEKeys, error) {
	rows, err := readTable(file, 8)
	if err != nil {
		return nil, err
	}
	var keys []IKEKeys
	for _, row := range rows {
		var k IKEKeys
		var errs [6]error
		k.SPIi, errs[0] = strconv.ParseUint(row[0], 16, 64)
		k.SPIr, errs[1] = strconv.ParseUint(row[1], 16, 64)
		k.SKei, errs[2] = hex.DecodeString(row[2])
		k.SKer, errs[3] = hex.DecodeString(row[3])
		k.SKai, errs[4] = hex.DecodeString(row[5])
		k.SKar, errs[5] = hex.DecodeString(row[6])
		for _, err := range errs {
			if err != nil {
				return nil, fmt.Errorf("golden: %s: %w", file, err)
			}
		}
		k.EncrName, k.IntegName = row[4], row[7]
		k.Encr, k.encrSupported = encryption(k.EncrName, len(k.SKei))
		k.Integ, k.integSupp = integrity(k.IntegName)
		keys = append(keys, k)
	}
	return keys, nil
}

// ReadESPKeys reads an esp_sa table.
func ReadESPKeys(file string) ([]ESPKeys, error) {
	rows, err := readTable(file, 8)
	if err != nil {
		return nil, err
	}
	var keys []ESPKeys
	for _, row := range rows {
		k := ESPKeys{Src: row[1], Dst: row[2], AnySPI: row[3] == "*", EncrName: row[4], IntegName: row[6]}
		if !k.AnySPI {
			spi, err := strconv.ParseUint(row[3], 0, 32)
			if err != nil {
				return nil, fmt.Errorf("golden: %s: %w", file, err)
			}
			k.SPI = uint32(spi)
		}
		if k.EncrKey, err = tableKey(row[5]); err != nil {
			return nil, fmt.Errorf("golden: %s: %w", file, err)
		}
		if k.IntegKey, err = tableKey(row[7]); err != nil {
			return nil, fmt.Errorf("golden: %s: %w", file, err)
		}
		k.Encr, k.encrSupported = encryption(k.EncrName, len(k.EncrKey))
		k.Integ, k.integSupp = integrity(k.IntegName)
		keys = append(keys, k)
	}
	return keys, nil
}

// tableKey reads 0x and hexadecimal digits, or the octets themselves.
func tableKey(s string) ([]byte, error) {
	if digits, ok := strings.CutPrefix(s, "0x"); ok {
		if len(digits)%2 == 1 {
			digits = "0" + digits
		}
		return hex.DecodeString(digits)
	}
	return []byte(s), nil
}

func readTable(file string, fields int) ([][]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("golden: %w", err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comment = '#'
	r.FieldsPerRecord = -1
	rows, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("golden: %s: %w", file, err)
	}
	for _, row := range rows {
		if len(row) < fields {
			return nil, fmt.Errorf("golden: %s: line with %d fields, want %d", file, len(row), fields)
		}
	}
	return rows, nil
}

// encryption is the transform that Wireshark names so, with a key of n octets.
func encryption(name string, n int) (suite.Transform, bool) {
	t := suite.Transform{Type: suite.TypeEncr}
	salt := 0
	switch {
	case strings.HasPrefix(name, "AES-GCM") && strings.Contains(name, "with 16 octet ICV"):
		t.ID, salt = suite.EncrAESGCM16, 4
	case strings.HasPrefix(name, "AES-CTR"):
		t.ID, salt = suite.EncrAESCTR, 4
	case strings.HasPrefix(name, "AES-CBC"):
		t.ID = suite.EncrAESCBC
	default:
		return t, false
	}
	t.KeyLen = uint16(8 * (n - salt))
	return t, true
}

// integrity is the transform that Wireshark names so, the zero one for none.
func integrity(name string) (suite.Transform, bool) {
	t := suite.Transform{Type: suite.TypeInteg}
	switch {
	case strings.HasPrefix(name, "NULL"), strings.HasPrefix(name, "NONE"):
		return suite.Transform{}, true
	case strings.HasPrefix(name, "HMAC-SHA-256-128"), strings.HasPrefix(name, "HMAC_SHA2_256_128"):
		t.ID = suite.IntegHMACSHA2_256_128
	case strings.HasPrefix(name, "HMAC-SHA-1-96"):
		t.ID = suite.IntegHMACSHA1_96
	default:
		return t, false
	}
	return t, true
}
