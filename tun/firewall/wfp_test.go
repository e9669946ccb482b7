package firewall

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func lines(filters []filter) string {
	var b strings.Builder
	for _, f := range filters {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

var onWindows = windowsHost{program: `\device\harddiskvolume3\martlet.exe`, luid: 71, index: 12}

func TestFiltersOfWFP(t *testing.T) {
	holedHost := onWindows
	holedHost.hole = true
	before := Rules{Device: "martlet0", Mark: 7, KillSwitch: true}
	site := gateway()
	site.Masquerade = nil
	site.TCPPorts = []uint16{4500}
	for _, test := range []struct {
		name  string
		rules Rules
		host  windowsHost
		want  string
	}{
		{"gateway", site, onWindows, `block INBOUND_IPPACKET_V4 "tunnel address from elsewhere" IP_LOCAL_ADDRESS == 10.9.0.1/32 and INTERFACE_INDEX != 12 and FLAGS without 1
block INBOUND_IPPACKET_V6 "tunnel address from elsewhere" IP_LOCAL_ADDRESS == fd00:9::1/128 and INTERFACE_INDEX != 12 and FLAGS without 1
block INBOUND_IPPACKET_V4 "outer address from inside" INTERFACE_INDEX == 12 and IP_REMOTE_ADDRESS == 192.0.2.1/32
block INBOUND_IPPACKET_V4 "to an outer address from inside" INTERFACE_INDEX == 12 and IP_LOCAL_ADDRESS == 192.0.2.1/32
block ALE_AUTH_RECV_ACCEPT_V4 "own port from inside" IP_ARRIVAL_INTERFACE == 71 and IP_PROTOCOL == 17 and IP_LOCAL_PORT == 500
block ALE_AUTH_RECV_ACCEPT_V4 "own port from inside" IP_ARRIVAL_INTERFACE == 71 and IP_PROTOCOL == 17 and IP_LOCAL_PORT == 4500
block ALE_AUTH_RECV_ACCEPT_V4 "own port from inside" IP_ARRIVAL_INTERFACE == 71 and IP_PROTOCOL == 6 and IP_LOCAL_PORT == 4500
block IPFORWARD_V4 "client to client" SOURCE_INTERFACE_INDEX == 12 and DESTINATION_INTERFACE_INDEX == 12
block ALE_AUTH_RECV_ACCEPT_V6 "own port from inside" IP_ARRIVAL_INTERFACE == 71 and IP_PROTOCOL == 17 and IP_LOCAL_PORT == 500
block ALE_AUTH_RECV_ACCEPT_V6 "own port from inside" IP_ARRIVAL_INTERFACE == 71 and IP_PROTOCOL == 17 and IP_LOCAL_PORT == 4500
block ALE_AUTH_RECV_ACCEPT_V6 "own port from inside" IP_ARRIVAL_INTERFACE == 71 and IP_PROTOCOL == 6 and IP_LOCAL_PORT == 4500
block IPFORWARD_V6 "client to client" SOURCE_INTERFACE_INDEX == 12 and DESTINATION_INTERFACE_INDEX == 12
`},
		{"before there is a device", before, windowsHost{program: "martlet.exe"}, `permit ALE_AUTH_CONNECT_V4 "own program" ALE_APP_ID == martlet.exe
permit ALE_AUTH_RECV_ACCEPT_V4 "own program" ALE_APP_ID == martlet.exe
permit ALE_AUTH_CONNECT_V4 "this host" FLAGS with 1
permit ALE_AUTH_RECV_ACCEPT_V4 "this host" FLAGS with 1
permit ALE_AUTH_CONNECT_V4 "DHCP" IP_PROTOCOL == 17 and IP_LOCAL_PORT == 68 and IP_REMOTE_PORT == 67
permit ALE_AUTH_RECV_ACCEPT_V4 "DHCP" IP_PROTOCOL == 17 and IP_LOCAL_PORT == 68 and IP_REMOTE_PORT == 67
block ALE_AUTH_CONNECT_V4 "all else"
block ALE_AUTH_RECV_ACCEPT_V4 "all else"
block IPFORWARD_V4 "all else"
permit ALE_AUTH_CONNECT_V6 "own program" ALE_APP_ID == martlet.exe
permit ALE_AUTH_RECV_ACCEPT_V6 "own program" ALE_APP_ID == martlet.exe
permit ALE_AUTH_CONNECT_V6 "this host" FLAGS with 1
permit ALE_AUTH_RECV_ACCEPT_V6 "this host" FLAGS with 1
permit ALE_AUTH_CONNECT_V6 "DHCP" IP_PROTOCOL == 17 and IP_LOCAL_PORT == 546 and IP_REMOTE_PORT == 547 and IP_LOCAL_ADDRESS == fe80::/10
permit ALE_AUTH_RECV_ACCEPT_V6 "DHCP" IP_PROTOCOL == 17 and IP_LOCAL_PORT == 546 and IP_REMOTE_PORT == 547 and IP_REMOTE_ADDRESS == fe80::/10
permit ALE_AUTH_CONNECT_V6 "neighbours" IP_PROTOCOL == 58 and IP_LOCAL_PORT == 133
permit ALE_AUTH_CONNECT_V6 "neighbours" IP_PROTOCOL == 58 and IP_LOCAL_PORT == 135
permit ALE_AUTH_CONNECT_V6 "neighbours" IP_PROTOCOL == 58 and IP_LOCAL_PORT == 136
permit ALE_AUTH_CONNECT_V6 "neighbours" IP_PROTOCOL == 58 and IP_LOCAL_PORT == 143
permit ALE_AUTH_CONNECT_V6 "neighbours" IP_PROTOCOL == 58 and IP_LOCAL_PORT == 131
permit ALE_AUTH_CONNECT_V6 "neighbours" IP_PROTOCOL == 58 and IP_LOCAL_PORT == 132
permit ALE_AUTH_RECV_ACCEPT_V6 "neighbours" IP_PROTOCOL == 58 and IP_LOCAL_PORT == 134
permit ALE_AUTH_RECV_ACCEPT_V6 "neighbours" IP_PROTOCOL == 58 and IP_LOCAL_PORT == 135
permit ALE_AUTH_RECV_ACCEPT_V6 "neighbours" IP_PROTOCOL == 58 and IP_LOCAL_PORT == 136
permit ALE_AUTH_RECV_ACCEPT_V6 "neighbours" IP_PROTOCOL == 58 and IP_LOCAL_PORT == 130
block ALE_AUTH_CONNECT_V6 "all else"
block ALE_AUTH_RECV_ACCEPT_V6 "all else"
block IPFORWARD_V6 "all else"
`},
		{"the tunnel, local networks and a hole, of IPv4", holed(time.Unix(1, 0)), holedHost, `block INBOUND_IPPACKET_V4 "tunnel address from elsewhere" IP_LOCAL_ADDRESS == 10.9.0.5/32 and INTERFACE_INDEX != 12 and FLAGS without 1
block IPFORWARD_V4 "client to client" SOURCE_INTERFACE_INDEX == 12 and DESTINATION_INTERFACE_INDEX == 12
permit ALE_AUTH_CONNECT_V4 "own program" ALE_APP_ID == \device\harddiskvolume3\martlet.exe
permit ALE_AUTH_RECV_ACCEPT_V4 "own program" ALE_APP_ID == \device\harddiskvolume3\martlet.exe
permit ALE_AUTH_CONNECT_V4 "this host" FLAGS with 1
permit ALE_AUTH_RECV_ACCEPT_V4 "this host" FLAGS with 1
permit ALE_AUTH_CONNECT_V4 "tunnel" IP_LOCAL_INTERFACE == 71
permit ALE_AUTH_RECV_ACCEPT_V4 "tunnel" IP_LOCAL_INTERFACE == 71
permit IPFORWARD_V4 "from the tunnel" SOURCE_INTERFACE_INDEX == 12
permit IPFORWARD_V4 "to the tunnel" DESTINATION_INTERFACE_INDEX == 12
permit ALE_AUTH_CONNECT_V4 "DHCP" IP_PROTOCOL == 17 and IP_LOCAL_PORT == 68 and IP_REMOTE_PORT == 67
permit ALE_AUTH_RECV_ACCEPT_V4 "DHCP" IP_PROTOCOL == 17 and IP_LOCAL_PORT == 68 and IP_REMOTE_PORT == 67
permit ALE_AUTH_CONNECT_V4 "local network" IP_REMOTE_ADDRESS == 192.168.7.0/24
permit ALE_AUTH_RECV_ACCEPT_V4 "local network" IP_REMOTE_ADDRESS == 192.168.7.0/24
block ALE_AUTH_CONNECT_V4 "tunnel address outside" IP_LOCAL_ADDRESS == 10.9.0.5/32
permit ALE_AUTH_CONNECT_V4 "hole" IP_PROTOCOL == 17 and IP_REMOTE_PORT == 53
permit ALE_AUTH_CONNECT_V4 "hole" IP_PROTOCOL == 6 and IP_REMOTE_PORT == 53
permit ALE_AUTH_CONNECT_V4 "hole" IP_PROTOCOL == 6 and IP_REMOTE_PORT == 80
permit ALE_AUTH_CONNECT_V4 "hole" IP_PROTOCOL == 6 and IP_REMOTE_PORT == 443
block ALE_AUTH_CONNECT_V4 "all else"
block ALE_AUTH_RECV_ACCEPT_V4 "all else"
block IPFORWARD_V4 "all else"
`},
		{"nothing", Rules{Device: "martlet0"}, onWindows, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := lines(test.rules.wfp(test.host))
			if strings.HasSuffix(test.name, "of IPv4") {
				got = lines(only(4, test.rules.wfp(test.host)))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("filters (-want +got):\n%s", diff)
			}
		})
	}
}

func only(family byte, all []filter) (out []filter) {
	for _, f := range all {
		if f.layer.family == family {
			out = append(out, f)
		}
	}
	return out
}

// What a hole let out ends with it, and what passes without a condition is nothing.
func TestFiltersOfWFPPermitNothingWithoutACondition(t *testing.T) {
	for _, f := range holed(time.Unix(1, 0)).wfp(onWindows) {
		if f.name == "hole" || !f.block && len(f.conditions) == 0 {
			t.Errorf("%s", f)
		}
		for _, c := range f.conditions { // as their fields have them
			switch c.value.(type) {
			case uint8, uint16, uint32, uint64, string, interface{ Bits() int }:
			default:
				t.Errorf("%s: a value of type %T", f, c.value)
			}
		}
	}
}

func TestCheckWFP(t *testing.T) {
	if err := closed().checkWFP(); err != nil {
		t.Error(err)
	}
	if err := gateway().checkWFP(); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "NetNat") {
		t.Errorf("masquerading: %v", err)
	}
}
