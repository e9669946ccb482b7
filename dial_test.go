package martlet

import (
	"errors"
	"net"
	"testing"
)

func TestAddressesToListenOn(t *testing.T) {
	for _, test := range []struct{ network, address, want string }{
		{"tcp", ":80", "[::]:80"},
		{"tcp4", ":80", "0.0.0.0:80"},
		{"tcp6", ":80", "[::]:80"},
		{"tcp", "10.77.0.1:0", "10.77.0.1:0"},
		{"tcp6", "[fd77::1]:80", "[fd77::1]:80"},
	} {
		if at, err := inner("tcp", test.network, test.address); err != nil || at.String() != test.want {
			t.Errorf("%s %s: %v, %v", test.network, test.address, at, err)
		}
	}
	for _, test := range []struct{ network, address string }{
		{"", ":80"},
		{"udp", ":80"},
		{"tcp46", ":80"},
		{"tcp", "80"},
		{"tcp", "host:80"},
		{"tcp", ":http"},
		{"tcp4", "[fd77::1]:80"},
		{"tcp6", "10.77.0.1:80"},
	} {
		at, err := inner("tcp", test.network, test.address)
		if _, ok := errors.AsType[*net.OpError](err); !ok {
			t.Errorf("%q %s: %v, %v", test.network, test.address, at, err)
		}
	}
}
