package martlet

import (
	"net/netip"
	"slices"
	"testing"
)

// The address of an SA that is down is not used any more: the next one may bring another.
func TestAddressesGoWithTheirSA(t *testing.T) {
	ctx := testContext(t)
	gateway := startNode(t, true, gatewayText)
	client := startNode(t, false, clientOf(gateway, netip.Addr.Is4))
	if err := client.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}
	old := client.stack.Addresses()
	if len(old) != 2 {
		t.Fatalf("addresses of a client that is up: %v", old)
	}
	client.Disconnect("")
	waitFor(t, client, func() bool { return len(client.Status().SAs) == 0 })
	if got := client.stack.Addresses(); len(got) != 0 {
		t.Errorf("addresses of a client that is down: %v", got)
	}
	if err := client.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Ping(ctx, netip.MustParseAddr("10.77.0.1")); err != nil {
		t.Error(err)
	}
	if got := client.stack.Addresses(); !slices.Equal(got, old) {
		t.Errorf("addresses of a client that is up again: %v, were %v", got, old)
	}
}
