package message_test

import (
	"bytes"
	"testing"

	. "martlet/ike/message"
)

// TestResourceNotifies: the figures of RFC 9611 §5.1 and §5.2, octet by octet.
func TestResourceNotifies(t *testing.T) {
	for _, c := range []struct {
		n    *Notify
		want string
	}{
		{&Notify{Notify: SAResourceInfo}, "00 00 0008  00 00 403c"},
		{&Notify{Notify: SAResourceInfo, Data: []byte{0, 0, 0, 3}}, "00 00 000c  00 00 403c  00000003"},
		{&Notify{Notify: TSMaxQueue}, "00 00 0008  00 00 0030"},
	} {
		want := unhex(t, c.want)
		if got := AppendPayloads(nil, []Payload{c.n}); !bytes.Equal(got, want) {
			t.Errorf("%v: %x, want %x", c.n.Notify, got, want)
		}
		ps, err := ParsePayloads(TypeNotify, want)
		if err != nil || FindNotify(ps, c.n.Notify) == nil {
			t.Errorf("%v: read as %v, %v", c.n.Notify, ps, err)
		}
	}
	if !TSMaxQueue.IsError() || SAResourceInfo.IsError() || TSMaxQueue.String() != "TS_MAX_QUEUE" || SAResourceInfo.String() != "SA_RESOURCE_INFO" {
		t.Error("an error is a status, or a name is wrong")
	}
}
