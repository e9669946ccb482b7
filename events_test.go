package martlet

import (
	"net/netip"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"martlet/ike"
)

// Whoever begins SAs and leaves them does not fill the log; what ends otherwise is told.
func TestAbandonedHandshakesAreLoggedSparingly(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	n := &Node{log: zap.New(core), peers: &registry{}, sockets: &sockets{}}
	down := func(from byte, code ike.Code) {
		n.report(ike.Down{
			Path: ike.Path{Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, from}), 500)},
			Err:  &Error{Code: code, What: "test"},
		})
	}
	for i := range 200 {
		down(byte(i), ike.CodeUnreachable)
	}
	if got := logs.Len(); got == 0 || got > 20 {
		t.Errorf("%d lines about 200 SAs that were begun and left", got)
	}
	before := logs.Len()
	for i := range 5 {
		down(byte(i), ike.CodePSK)
	}
	if got := logs.Len() - before; got != 5 {
		t.Errorf("%d lines about 5 failures", got)
	}
}

// Who watches hears when a reload begins and what came of it.
func TestReloadIsTold(t *testing.T) {
	n := &Node{}
	events := n.Watch(t.Context())
	if err := n.ReloadFile(); err == nil {
		t.Fatal("there is a file to read again")
	}
	if ev := <-events; ev.Kind != EventReloading {
		t.Errorf("first came %+v", ev)
	}
	if ev := <-events; ev.Kind != EventReloaded || ev.Text == "" || ev.Err == nil || ev.Err.Code != ike.CodeReload {
		t.Errorf("then came %+v", ev)
	}
}
