package interop

import (
	"fmt"
	"strings"
	"testing"
)

// TestHarness has strongSwan at both ends, so that what the other tests rest on is known to
// work, tcpdump's eye for leaks included.
func TestHarness(t *testing.T) {
	start(t)
	n := behindNATs(t)
	leaks := tap(n.wire, n.wireName, outside)
	conf := func(remote, own, peer, local, far string) string {
		return fmt.Sprintf(`
connections { c { version = 2
	remote_addrs = %s
	proposals = aes256gcm16-prfsha256-x25519
	local { auth = psk
		id = %s }
	remote { auth = psk
		id = %s }
	children { net { local_ts = %s
		remote_ts = %s
		esp_proposals = aes256gcm16 } } } }
secrets { ike-1 { secret = 0123456789abcdef } }
`, remote, own, peer, local, far)
	}
	startSwan(n.b, swanSettings{}, "", conf("%any", "b.test", "a.test", netB4, netA4))
	a := startSwan(n.a, swanSettings{}, "", conf(n.addrB, "a.test", "b.test", netA4, netB4))
	if out, err := a.initiate("net"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	n.a.ping(inA4, inB4)
	n.b.ping(inB4, inA4)
	stream(t, n.a, inA4, n.b, inB4)
	leaks.clean(t)

	open := tap(n.wire, n.wireName, outside)
	n.a.silent(n.ownA, "203.0.113.99") // nobody there: but the ping is on the wire or its ARP is
	if _, err := n.a.try("ping", "-c", "1", "-W", "5", n.addrB); err != nil {
		t.Error("the routers do not reach each other")
	}
	if seen := strings.Join(open.seen(), "\n"); !strings.Contains(seen, "echo request") {
		t.Errorf("tcpdump does not see an open packet; it saw %q", seen)
	}
}
