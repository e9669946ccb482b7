package message_test

import (
	"net/netip"
	"testing"

	. "martlet/ike/message"
)

func TestTSWire(t *testing.T) {
	ts, err := parseOne[*TS](t, TypeTSi, "02000000"+
		" 07 06 0010 0050 0051 0a000001 0a000009"+
		" 08 00 0028 0000 ffff 20010db8000000000000000000000000 20010db8ffffffffffffffffffffffff")
	if err != nil {
		t.Fatal(err)
	}
	if len(ts.Selectors) != 2 || ts.Responder {
		t.Fatalf("%+v", ts)
	}
	if want := (Selector{Protocol: 6, StartPort: 80, EndPort: 81, From: netip.MustParseAddr("10.0.0.1"), To: netip.MustParseAddr("10.0.0.9")}); ts.Selectors[0] != want {
		t.Errorf("%v, want %v", ts.Selectors[0], want)
	}
	if want := SelectorOf(netip.MustParsePrefix("2001:db8::/32")); ts.Selectors[1] != want {
		t.Errorf("%v, want %v", ts.Selectors[1], want)
	}
}

func TestTSUnknownType(t *testing.T) {
	const label, v4 = " 0a 00 0008 73656c00", " 07 00 0010 0000 ffff 0a000000 0a0000ff"
	for body, want := range map[string]int{
		"01000000" + label:      0,
		"02000000" + label + v4: 1,
		"02000000" + v4 + label: 1,
	} {
		ts, err := parseOne[*TS](t, TypeTSr, body)
		if err != nil || len(ts.Selectors) != want {
			t.Errorf("%s: %+v, %v; want %d selectors", body, ts, err, want)
		}
	}
}
