package level2

import (
	"encoding/csv"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"martlet/config"
	"martlet/crypto/suite"
	"martlet/esp"
	"martlet/test/simnet"
)

// keyTable reads one of Wireshark's tables that a node wrote.
func (w *world) keyTable(cfg *config.Config, name string) [][]string {
	w.Helper()
	file, err := os.Open(filepath.Join(cfg.Node.KeyLog, name))
	if err != nil {
		w.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		w.Fatal(err)
	}
	if len(rows) == 0 {
		w.Fatalf("%s is empty", name)
	}
	return rows
}

// keys is every key that a node has logged.
func (w *world) keys(cfg *config.Config) [][]byte {
	w.Helper()
	var out [][]byte
	for _, name := range []string{"ikev2_decryption_table", "esp_sa"} {
		for _, row := range w.keyTable(cfg, name) {
			for _, field := range row {
				// SPIs are shorter.
				if b, err := hex.DecodeString(strings.TrimPrefix(field, "0x")); err == nil && len(b) >= 16 {
					out = append(out, b)
				}
			}
		}
	}
	return out
}

// forger seals what it likes with the keys of a client that has sent nothing yet.
type forger struct {
	w    *world
	host *simnet.Host
	from netip.AddrPort
	out  *esp.Outbound
}

func (w *world) forger(client *end) *forger {
	w.Helper()
	sa := client.sa()
	if got := sa.Children[0].Suite; got != "aes256gcm16-esn" {
		w.Fatalf("the child has %s", got)
	}
	spi, err := strconv.ParseUint(sa.Children[0].SPIOut, 16, 32)
	if err != nil {
		w.Fatal(err)
	}
	for _, row := range w.keyTable(client.Config, "esp_sa") {
		if got, err := strconv.ParseUint(row[3], 0, 32); err != nil || got != spi {
			continue
		}
		key, err := hex.DecodeString(strings.TrimPrefix(row[5], "0x"))
		if err != nil {
			w.Fatal(err)
		}
		out, err := esp.NewOutbound(esp.Keys{
			SPI: uint32(spi), EncrKey: key, ESN: true,
			Encr: suite.Transform{Type: suite.TypeEncr, ID: suite.EncrAESGCM16, KeyLen: 256},
		})
		if err != nil {
			w.Fatal(err)
		}
		return &forger{w, client.host, sa.LocalAddr, out}
	}
	w.Fatal("the key of the client is not in its key log")
	return nil
}

// send seals an inner packet and sends it to the gateway.
func (f *forger) send(inner []byte) {
	f.w.Helper()
	sealed, err := f.out.Seal(nil, inner, 4)
	if err != nil {
		f.w.Fatal(err)
	}
	f.host.Send(simnet.Datagram{From: f.from, To: netip.AddrPortFrom(gatewayAddr, 4500), Data: sealed})
}
