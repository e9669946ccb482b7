package outside

import "testing"

// TestOptions: the numbers are those of the systems' headers, and of an index 0x0102 the octets.
func TestOptions(t *testing.T) {
	for name, c := range map[string]struct{ got, want option }{
		"macOS, IPv4":              {boundIF(true, 0x0102), option{0, 25, 0x0102}},
		"macOS, IPv6":              {boundIF(false, 0x0102), option{41, 125, 0x0102}},
		"Windows, IPv4":            {unicastIF(true, 0x0102), option{0, 31, 0x02010000}},
		"Windows, IPv4, one octet": {unicastIF(true, 5), option{0, 31, 0x05000000}},
		"Windows, IPv4, high":      {unicastIF(true, 0x01020384), option{0, 31, 0x84030201}},
		"Windows, IPv6":            {unicastIF(false, 0x0102), option{41, 31, 0x0102}},
		"FreeBSD":                  {userCookie(0x4d4c), option{0xffff, 0x1015, 0x4d4c}},
		"FreeBSD without a mark":   {userCookie(0), option{}},
		"OpenBSD":                  {routingTable(7), option{0xffff, 0x1021, 7}},
		"OpenBSD without a table":  {routingTable(0), option{}},
	} {
		if c.got != c.want {
			t.Errorf("%s: %+v, want %+v", name, c.got, c.want)
		}
	}
}

func TestOnLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.53:53": true, "127.255.0.1:1": true, "[::1]:443": true, "[::ffff:127.0.0.1]:80": true,
		"192.0.2.1:500": false, "[2001:db8::1]:500": false, "0.0.0.0:0": false, "[::]:4500": false,
		"[fe80::1%en0]:500": false, "localhost:53": false, ":0": false, "": false,
	} {
		if got := onLoopback(address); got != want {
			t.Errorf("%q: %v", address, got)
		}
	}
}

// TestLoopbackIsNotBound: what is on this host needs no way out, whether there is one or not.
func TestLoopbackIsNotBound(t *testing.T) {
	for address, v4 := range map[string]bool{"127.0.0.53:53": true, "[::1]:53": false} {
		if o, err := (Way{}).bound(v4, address, boundIF); err != nil || o != (option{}) {
			t.Errorf("%s: %+v, %v", address, o, err)
		}
	}
}
