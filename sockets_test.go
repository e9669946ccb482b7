package martlet

import (
	"net/netip"
	"strings"
	"testing"
)

// A Node that listens on one address of several and connects from another: the socket of
// the one cannot send from the other.
func TestConnectFromAnotherAddressThanServed(t *testing.T) {
	ctx := testContext(t)
	gateway := startNode(t, true, gatewayText)
	text := "[node]\nlisten = [\"127.0.0.2\"]\nike_port = 0\nnat_port = 0\n" + clientOf(gateway, netip.Addr.Is4)
	both := startNode(t, true, text)
	if !strings.HasPrefix(both.Addresses()[0].String(), "127.0.0.2:") {
		t.Fatalf("listens on %v", both.Addresses())
	}
	if err := both.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := both.Ping(ctx, netip.MustParseAddr("10.77.0.1")); err != nil {
		t.Error(err)
	}
}
