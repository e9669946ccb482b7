package martlet

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"martlet/esp"
	"martlet/esp/udpencap"
	"martlet/test/simnet"
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

// slowly opens each socket when it is told to, and fails if it is told an error.
type slowly struct {
	udpencap.Listener
	asked int
	tell  chan error
}

func (l *slowly) Listen(local netip.AddrPort, encap bool) (udpencap.Socket, error) {
	l.asked++
	if err := <-l.tell; err != nil {
		return nil, err
	}
	return l.Listener.Listen(local, encap)
}

// Who dials while a socket of that kind is being opened gets that one, or if it fails tries too.
func TestDialTogether(t *testing.T) {
	errNot := errors.New("not now")
	for _, test := range []struct {
		name   string
		port   uint16
		encap  [2]bool
		tell   []error
		shared bool
	}{
		{"ephemeral", 0, [2]bool{true, true}, []error{nil}, true},
		{"a port", 5500, [2]bool{true, true}, []error{nil}, true},
		{"two kinds", 0, [2]bool{true, false}, []error{nil, nil}, false},
		{"one fails", 0, [2]bool{true, true}, []error{errNot, nil}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bind := &slowly{Listener: simnet.NewLive(1).Host("client", simnet.Link{}), tell: make(chan error)}
				n := &Node{plane: esp.New(simnet.NewTun("tun", 1400), nil, nil)}
				defer n.plane.Close()
				s := &sockets{node: n, bind: bind}
				var socks [2]*socket
				var errs [2]error
				for i, encap := range test.encap {
					go func() {
						socks[i], errs[i] = s.dial(netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.1"), encap, test.port)
					}()
				}
				for _, err := range test.tell {
					synctest.Wait()
					if !s.mu.TryLock() {
						t.Fatal("packets wait for a socket that is being opened")
					}
					s.mu.Unlock()
					bind.tell <- err
				}
				synctest.Wait()
				close(bind.tell)
				synctest.Wait()
				if bind.asked != len(test.tell) {
					t.Errorf("%d sockets were asked for, want %d", bind.asked, len(test.tell))
				}
				if shared := socks[0] == socks[1]; shared != test.shared {
					t.Errorf("got %v and %v: %v", socks[0], socks[1], errs)
				}
				if err := errors.Join(errs[:]...); errors.Is(err, errNot) != (test.tell[0] != nil) {
					t.Error(err)
				}
			})
		})
	}
}
