package message

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"
)

// RFC 7296 §2.23: SPIs in the order of the header, the address in network order, the port.
func TestNATDetection(t *testing.T) {
	// printf '0102030405060708 1112131415161718 c0000201 1194' | xxd -r -p | sha1sum
	got := NATDetection(0x0102030405060708, 0x1112131415161718, netip.MustParseAddrPort("192.0.2.1:4500"))
	if want := "5184f43875ff7d9e3dfdc92bd1dee1a08204de3e"; hex.EncodeToString(got) != want {
		t.Errorf("%x, want %s", got, want)
	}
	mapped := NATDetection(0x0102030405060708, 0x1112131415161718, netip.MustParseAddrPort("[::ffff:192.0.2.1]:4500"))
	if !bytes.Equal(mapped, got) {
		t.Error("an IPv4 address has another hash as one of IPv6")
	}
	faked := FakedNATDetection(0x0102030405060708, 0x1112131415161718, netip.MustParseAddrPort("192.0.2.1:4500"))
	for i := range faked {
		if faked[i] != ^got[i] {
			t.Fatalf("%x is not the complement of %x", faked, got)
		}
	}
}
