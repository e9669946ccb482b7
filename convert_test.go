package martlet

import (
	"net/netip"
	"slices"
	"testing"

	"martlet/ike/message"
)

// A peer may choose selectors that fall into tens of thousands of prefixes, each of which
// counts once.
func TestPrefixesOfManySelectors(t *testing.T) {
	var many []message.Selector
	for i := range 255 {
		many = append(many, message.Selector{
			EndPort: 65535,
			From:    netip.AddrFrom16([16]byte{0x20, 1, 0, byte(i), 15: 1}),
			To:      netip.AddrFrom16([16]byte{0x20, 1, 0, byte(i), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe}),
		})
	}
	once := prefixesOf(many)
	if len(once) != 255*190 || once[0] != netip.MustParsePrefix("2001::1/128") {
		t.Errorf("%d prefixes, the first %v", len(once), once[0])
	}
	if twice := prefixesOf(slices.Concat(many, many)); !slices.Equal(once, twice) {
		t.Errorf("%d prefixes of the same selectors twice", len(twice))
	}
}
