package profile

import (
	"net/netip"
	"testing"
)

func TestExclusionsLeaveExactlyTheRest(t *testing.T) {
	list, err := without([]string{"10.0.0.0/8", "192.0.2.4-192.0.2.9"}, []string{"10.1.0.0/16", "192.0.2.5"})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"10.0.255.255": true, "10.1.0.0": false, "10.1.255.255": false, "10.2.0.0": true, "11.0.0.0": false, "9.255.255.255": false,
		"192.0.2.3": false, "192.0.2.4": true, "192.0.2.5": false, "192.0.2.6": true, "192.0.2.9": true, "192.0.2.10": false,
	} {
		in := false
		for _, p := range list {
			in = in || p.Contains(netip.MustParseAddr(text))
		}
		if in != want {
			t.Errorf("%s is in: %v", text, in)
		}
	}
}

func TestAllAddressesCanBeExcluded(t *testing.T) {
	list, err := without([]string{"::/0"}, []string{"::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"})
	if err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	if list, err := without(nil, []string{"10.0.0.1-9.0.0.1"}); err == nil {
		t.Error(list)
	}
}
