package martlet

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// TestRekeyFindsMismatch: the tunnel comes up, and the groups of the two sides do not meet. Whoever
// tries it early is told which group we want, that the other side wants another, and when it would
// have failed; the tunnel stays.
func TestRekeyFindsMismatch(t *testing.T) {
	ctx := testContext(t)
	gateway := startNode(t, true, gatewayText+`child.net.proposals = ["aes256gcm16-x25519"]`)
	client := startNode(t, false, clientOf(gateway, netip.Addr.Is4)+`child.net.proposals = ["aes256gcm16-ecp384"]`)
	if err := client.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}
	told := gateway.Watch(ctx)
	e, ok := errors.AsType[*Error](client.Rekey(ctx, "office", "net"))
	if !ok {
		t.Fatal("a child is replaced whose groups do not meet")
	}
	for _, want := range []string{"PFS", "by ecp384", "NO_PROPOSAL_CHOSEN", "after 1h0m0s"} {
		if !strings.Contains(e.Why, want) {
			t.Errorf("no %q in: %s", want, e.Why)
		}
	}
	ev := <-told
	for ev.Kind != EventRekeyFailed {
		ev = <-told
	}
	if !strings.Contains(ev.Err.Detail, "ecp384") || !strings.Contains(ev.Err.Detail, "x25519") {
		t.Errorf("the gateway tells %+v", ev.Err)
	}
	if _, err := client.Ping(ctx, netip.MustParseAddr("10.77.0.1")); err != nil {
		t.Errorf("the child does not stand any more: %v", err)
	}
}
