package probe

import (
	"bytes"
	"encoding/hex"
	"fmt"
)

// vendors are the vendor IDs of gateways: the whole of one, or what it begins with where a version
// follows. Most are the MD5 of a name.
var vendors = []struct{ id, name string }{
	{"\x88\x2f\xe5\x6d\x6f\xd2\x0d\xbc\x22\x51\x61\x3b\x2e\xbe\x5b\xeb", "strongSwan"},
	{"\x1e\x2b\x51\x69\x05\x99\x1c\x7d\x7c\x96\xfc\xbf\xb5\x87\xe4\x61", "Microsoft Windows"},
	{"\xfb\x1d\xe3\xcd\xf3\x41\xb7\xea\x16\xb7\xe5\xbe\x08\x55\xf1\x20", "Microsoft, negotiation discovery"},
	{"\x26\x24\x4d\x38\xed\xdb\x61\xb3\x17\x2a\x36\xe3\xd0\xcf\xb8\x19", "Microsoft, initial contact"},
	{"\x01\x52\x8b\xbb\xc0\x06\x96\x12\x18\x49\xab\x9a\x1c\x5b\x2a\x51", "Microsoft, undocumented"},
	{"\x1d\x6e\x17\x8f\x6c\x2c\x0b\xe2\x84\x98\x54\x65\x45\x0f\xe9\xd4", "Fortinet FortiGate"},
	{"\xfd\x80\x88\x04\xdf\x73\xb1\x51\x50\x70\x9d\x87\x80\x44\xcd\xe0\xac\x1e\xfc\xde", "Juniper SRX"},
	{"\xf4\xed\x19\xe0\xc1\x14\xeb\x51\x6f\xaa\xac\x0e\xe3\x7d\xaf\x28\x07\xb4\x38\x1f", "Check Point"},
	{"\x5b\x36\x2b\xc8\x20\xf6\x00\x07", "SonicWall"},
	{"\x5b\x36\x2b\xc8\x20\xf6\x00\x08", "SonicWall"},
	{"CISCO-DELETE-REASON", "Cisco, delete reason"},
	{"CISCO(COPYRIGHT)", "Cisco"},
	{"CISCOVPN-REV-02", "Cisco, revision 2"},
	{"CISCO-DYNAMIC-ROUTE", "Cisco, dynamic route"},
	{"FLEXVPN-SUPPORTED", "Cisco FlexVPN"},
	{"\x40\x48\xb7\xd5\x6e\xbc\xe8\x85\x25\xe7\xde\x7f\x00\xd6\xc2\xd3", "fragmentation as in IKEv1"},
}

// shownVendor is how much of an unknown vendor ID is shown, in octets.
const shownVendor = 40

// VendorName names who sends a vendor ID (RFC 7296 §3.12). One that is not known is shown in
// hexadecimal, with what of it can be read.
func VendorName(id []byte) string {
	for _, v := range vendors {
		if bytes.HasPrefix(id, []byte(v.id)) {
			return v.name
		}
	}
	shown := id[:min(len(id), shownVendor)]
	text, readable := make([]byte, len(shown)), 0
	for i, c := range shown {
		text[i] = '.'
		if c >= ' ' && c <= '~' && c != '"' && c != '\\' {
			text[i] = c
			readable++
		}
	}
	out := hex.EncodeToString(shown)
	if len(id) > len(shown) {
		out += fmt.Sprintf("… (%d octets)", len(id))
	}
	if 2*readable > len(shown) {
		out += fmt.Sprintf(" (%q)", text)
	}
	return out
}
