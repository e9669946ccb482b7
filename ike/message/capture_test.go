package message_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"martlet/crypto/suite"
	. "martlet/ike/message"
	"martlet/test/golden"
)

// recorded is every IKE message of the captures, of whatever version and shape.
func recorded(tb testing.TB) [][]byte {
	tb.Helper()
	var msgs [][]byte
	for _, file := range golden.CaptureFiles(tb) {
		packets, err := golden.ReadCapture(file)
		if err != nil {
			tb.Fatal(err)
		}
		for _, p := range packets {
			if msg, ok := p.IKE(); ok {
				msgs = append(msgs, msg)
			}
		}
	}
	raw, err := filepath.Glob(filepath.Join(golden.Vectors(tb), "captures", "*", "*.bin"))
	if err != nil {
		tb.Fatal(err)
	}
	for _, file := range raw {
		msg, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		msgs = append(msgs, msg)
	}
	return msgs
}

// chain is the decrypted inside of a message: the fragments put together.
type chain struct {
	first PayloadType
	text  []byte
}

// decrypted is the inside of every protected message of the captures for which there
// are keys.
func decrypted(tb testing.TB) []chain {
	tb.Helper()
	tables, err := filepath.Glob(filepath.Join(golden.Vectors(tb), "captures", "*", "*", "ikev2_decryption_table"))
	if err != nil {
		tb.Fatal(err)
	}
	var chains []chain
	for _, table := range tables {
		keys, err := golden.ReadIKEKeys(table)
		if err != nil {
			tb.Fatal(err)
		}
		captures, err := filepath.Glob(filepath.Join(filepath.Dir(table), "capture.pcap*"))
		if err != nil || len(captures) != 1 {
			tb.Fatalf("%s: captures %v, %v; want one", table, captures, err)
		}
		packets, err := golden.ReadCapture(captures[0])
		if err != nil {
			tb.Fatal(err)
		}
		chains = append(chains, decrypt(tb, keys, packets)...)
	}
	return chains
}

// tableSA is one line of a key table. An SA has two where IKE_INTERMEDIATE replaced
// its keys (RFC 9242).
type tableSA struct {
	spii, spir SPI
	ciphers    map[bool]suite.Cipher // by whether the initiator sent it
}

// decrypt opens every protected message of the SAs whose keys there are.
func decrypt(tb testing.TB, keys []golden.IKEKeys, packets []golden.Packet) []chain {
	tb.Helper()
	var table []tableSA
	for _, k := range keys {
		if !k.Supported() {
			continue
		}
		sa := tableSA{SPI(k.SPIi), SPI(k.SPIr), map[bool]suite.Cipher{}}
		var errs [2]error
		sa.ciphers[true], errs[0] = suite.NewCipher(k.Encr, k.Integ, k.SKei, k.SKai)
		sa.ciphers[false], errs[1] = suite.NewCipher(k.Encr, k.Integ, k.SKer, k.SKar)
		if err := errors.Join(errs[:]...); err != nil {
			tb.Fatal(err)
		}
		table = append(table, sa)
	}
	type direction struct {
		spi       SPI
		initiator bool
	}
	reassembly := map[direction]*Reassembly{}
	var chains []chain
	for _, p := range packets {
		raw, ok := p.IKE()
		if !ok {
			continue
		}
		h, err := ParseHeader(raw)
		if err != nil || h.Exchange == IKESAInit {
			continue
		}
		candidates, opened := 0, false
		for _, sa := range table {
			if sa.spii != h.SPIi || sa.spir != h.SPIr || opened {
				continue
			}
			candidates++
			_, e, text, err := Open(bytes.Clone(raw), sa.ciphers[h.FromInitiator()])
			if err != nil {
				continue
			}
			opened = true
			first, done := e.First, true
			if e.Fragment != 0 {
				dir := direction{h.SPIi, h.FromInitiator()}
				if reassembly[dir] == nil {
					reassembly[dir] = &Reassembly{}
				}
				first, text, done = reassembly[dir].Add(h.MessageID, e, text)
			}
			if done {
				chains = append(chains, chain{first, text})
			}
		}
		if candidates > 0 && !opened {
			tb.Errorf("SA %v, %v %d: none of %d keys opens it", h.SPIi, h.Exchange, h.MessageID, candidates)
		}
	}
	return chains
}

// Every recorded message is parsed without a panic; what parses is appended to the
// same octets.
func TestCaptures(t *testing.T) {
	var parsed, versions, broken int
	for _, msg := range recorded(t) {
		m, err := Parse(msg)
		if _, ok := errors.AsType[*VersionError](err); ok {
			versions++
			continue
		}
		if err != nil {
			if !isSyntaxError(err) {
				t.Errorf("%x: error is %T", msg, err)
			}
			broken++
			t.Logf("malformed: %v", err)
			continue
		}
		parsed++
		if again := m.Append(nil); !equalButCritical(again, msg) {
			t.Errorf("%v of %v is appended otherwise:\n%x\n%x", m.Exchange, m.SPIi, msg, again)
		}
	}
	t.Logf("%d messages parsed, %d of other versions, %d malformed", parsed, versions, broken)
	if parsed < 300 || versions == 0 || broken == 0 {
		t.Error("that is fewer than the captures hold")
	}
}

// equalButCritical compares two messages; Openswan marks payloads critical that
// every receiver knows, and we do not keep that.
func equalButCritical(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && a[i]^b[i] != 0x80 {
			return false
		}
	}
	return true
}

func TestCapturesDecrypted(t *testing.T) {
	chains := decrypted(t)
	for _, c := range chains {
		ps, err := ParsePayloads(c.first, c.text)
		if err != nil {
			t.Errorf("%v: %v\n%x", c.first, err, c.text)
			continue
		}
		if again := AppendPayloads(nil, ps); !bytes.Equal(again, c.text) {
			t.Errorf("%v is appended otherwise:\n%x\n%x", c.first, c.text, again)
		}
	}
	t.Logf("%d messages decrypted", len(chains))
	if len(chains) < 100 {
		t.Error("that is fewer than the captures hold")
	}
}

// seedBodies adds to f the body of each recorded payload of one of the types, in
// the clear and inside SK, and of the samples.
func seedBodies(f *testing.F, add func(Payload, []byte), types ...PayloadType) {
	chains := [][]Payload{samples()}
	for _, msg := range recorded(f) {
		if m, err := Parse(msg); err == nil {
			chains = append(chains, m.Payloads)
		}
	}
	for _, c := range decrypted(f) {
		if ps, err := ParsePayloads(c.first, c.text); err == nil {
			chains = append(chains, ps)
		}
	}
	seen := map[string]bool{}
	for _, ps := range chains {
		for _, p := range ps {
			for _, typ := range types {
				body := AppendPayloads(nil, []Payload{p})[4:]
				if p.Type() == typ && !seen[string(body)] {
					seen[string(body)] = true
					add(p, body)
				}
			}
		}
	}
}

// chainOf writes the generic header before a body.
func chainOf(body []byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(body)+4))
	return append(b, body...)
}
