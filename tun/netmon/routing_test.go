package netmon

import (
	"net/netip"
	"testing"
)

// TestSubject reads the heads of messages as the kernels write them.
func TestSubject(t *testing.T) {
	for name, c := range map[string]struct {
		message string
		openbsd bool
		about   about
		ok      bool
	}{
		"RTM_ADD of macOS":       {"\x84\x00\x05\x01\x0e\x00\x00\x00", false, aRoute, true},
		"RTM_DELETE of FreeBSD":  {"\xe8\x00\x05\x02\x01\x00\x00\x00", false, aRoute, true},
		"RTM_CHANGE of OpenBSD":  {"\x90\x00\x05\x03\x60\x00\x02\x00", true, aRoute, true},
		"RTM_GET answers a call": {"\x84\x00\x05\x04\x0e\x00\x00\x00", false, 0, false},
		"RTM_MISS":               {"\x5c\x00\x05\x07\x00\x00\x00\x00", false, 0, false},
		"RTM_NEWADDR":            {"\x44\x00\x05\x0c\xf4\x00\x00\x00", false, anAddress, true},
		"RTM_DELADDR":            {"\x44\x00\x05\x0d\xf4\x00\x00\x00", false, anAddress, true},
		"RTM_IFINFO, no address": {"\x70\x00\x05\x0e\x00\x00\x00\x00", false, aLink, true},
		"RTM_NEWMADDR of macOS":  {"\x3c\x00\x05\x0f\x00\x00\x00\x00", false, 0, false},
		"RTM_DELMADDR of macOS":  {"\x3c\x00\x05\x10\x00\x00\x00\x00", false, 0, false},
		"RTM_DESYNC of OpenBSD":  {"\x60\x00\x05\x10\x60\x00\x00\x00", true, aLoss, true},
		"too short":              {"\x03\x00\x05", false, 0, false},
		"nothing":                {"", false, 0, false},
	} {
		about, ok := subject([]byte(c.message), c.openbsd)
		if ok != c.ok || ok && about != c.about {
			t.Errorf("%s: %v, %v", name, about, ok)
		}
	}
}

func TestPrefix(t *testing.T) {
	for _, c := range []struct {
		dst, mask string
		host      bool
		want      string
	}{
		{"0.0.0.0", "0.0.0.0", false, "0.0.0.0/0"},
		{"::", "::", false, "::/0"},
		{"0.0.0.0", "", false, "0.0.0.0/0"},
		{"::", "", false, "::/0"},
		{"0.0.0.0", "128.0.0.0", false, "0.0.0.0/1"},
		{"192.0.2.0", "255.255.255.0", false, "192.0.2.0/24"},
		{"2001:db8::", "ffff:ffff::", false, "2001:db8::/32"},
		{"192.0.2.1", "255.255.255.255", false, "192.0.2.1/32"},
		{"192.0.2.1", "", true, "192.0.2.1/32"},
		{"0.0.0.0", "", true, "0.0.0.0/32"},
		{"2001:db8::1", "", true, "2001:db8::1/128"},
		{"192.0.2.0", "", false, ""},
		{"192.0.2.0", "255.0.255.0", false, ""},
		{"192.0.2.0", "0.0.0.255", false, ""},
		{"0.0.0.0", "0.0.0.1", false, ""},
		{"192.0.2.0", "ffff:ffff:ffff:ffff:ffff::", false, ""},
		{"", "255.255.255.0", false, ""},
	} {
		got, want := prefix(parsed(c.dst), parsed(c.mask), c.host), ""
		if got.IsValid() {
			want = got.String()
		}
		if want != c.want {
			t.Errorf("%q mask %q host %v: %q, want %q", c.dst, c.mask, c.host, want, c.want)
		}
	}
}

// parsed is an address; invalid for none.
func parsed(s string) netip.Addr {
	a, _ := netip.ParseAddr(s)
	return a
}

// FuzzPrefix: whatever the kernel writes, a mask is one exactly if it is that of its length.
func FuzzPrefix(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0}, []byte{0, 0, 0, 0}, false)
	f.Add([]byte{192, 0, 2, 0}, []byte{255, 255, 255, 0}, false)
	f.Add(make([]byte, 16), []byte{255, 0, 255, 15: 0}, false)
	f.Fuzz(func(t *testing.T, dst, mask []byte, host bool) {
		d, _ := netip.AddrFromSlice(dst)
		m, _ := netip.AddrFromSlice(mask)
		p := prefix(d, m, host)
		if !p.IsValid() || host || !m.IsValid() {
			return
		}
		all := make([]byte, len(mask))
		for i := range p.Bits() {
			all[i/8] |= 0x80 >> (i % 8)
		}
		if string(all) != string(mask) {
			t.Errorf("the mask %v is said to be of %d bits", m, p.Bits())
		}
	})
}
