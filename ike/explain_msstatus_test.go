package ike

import (
	"encoding/binary"
	"strings"
	"testing"

	"martlet/ike/message"
)

func TestWindowsStatusIsExplained(t *testing.T) {
	for code, want := range map[uint32]string{
		13801: "AUTH_FAIL", 13806: "NO_CERT", 13816: "IKE_ERROR", 13863: "INVALID_SITUATION",
		13868: "POLICY_MATCH", 13885: "SA_DELETE", 1: "do not know",
	} {
		n := &message.Notify{Notify: message.MSStatus, Data: binary.BigEndian.AppendUint32(nil, code)}
		err := (&Error{Why: "before"}).explainWindows(n)
		if !strings.Contains(err.Why, want) || err.Hint == "" {
			t.Errorf("%d: %q, %q", code, err.Why, err.Hint)
		}
		n.Data = n.Data[1:]
		if err := (&Error{Why: "before"}).explainWindows(n); err.Why != "before" {
			t.Errorf("three octets: %q", err.Why)
		}
	}
	if err := (&Error{Why: "before"}).explainWindows(&message.Notify{Notify: message.TemporaryFailure, Data: make([]byte, 4)}); err.Why != "before" {
		t.Errorf("another notify: %q", err.Why)
	}
}

// What a Windows client says of us on its own is told, and nothing else happens.
func TestWindowsStatusIsTold(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	s := engineOf(a)
	b.deliver(a, craft(t, s, message.Informational, s.nextID, 0, notifyData(message.MSStatus, binary.BigEndian.AppendUint32(nil, 13801))))
	w.run(0)
	warned := found[Warned](b)
	if len(warned) != 1 || !strings.Contains(warned[0].Text, "ERROR_IPSEC_IKE_AUTH_FAIL") || len(b.e.Statuses()) != 1 {
		t.Errorf("%+v", warned)
	}
}
