package ike

import (
	"fmt"
	"testing"
	"time"

	"martlet/ike/message"
)

// An SA that ends while the key exchange of a child is computed gives the child's SPI back.
func TestSPIOfAChildThatNeverCame(t *testing.T) {
	client, gateway := pskPair(t)
	client.Children[0].Proposals = espProposals(t, "aes256gcm16-modp4096")
	gateway.Children[0].Proposals = espProposals(t, "aes256gcm16-modp4096")
	client.Children = append(client.Children, &ChildConfig{Name: "more", OnRequest: true, Proposals: client.Children[0].Proposals, Local: client.Children[0].Local, Remote: client.Children[0].Remote})
	w, a, b := up(t, client, gateway)
	b.mute = true
	a.handle(Acquire{Connection: "home", Child: "more"})
	w.run(time.Second)
	b.handle(Terminate{})
	w.run(5 * time.Minute)
	empty(t, a, b)
}

// A peer cannot open children without end.
func TestChildrenAreBounded(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	refused := 0
	for i := range maxChildren + 5 {
		another := *client.Children[0]
		another.Name = fmt.Sprintf("another %d", i)
		a.poke(func(s *ikeSA) { s.enqueue(&createTask{cfg: &another}) })
		w.run(time.Second)
	}
	for _, f := range found[ChildFailed](a) {
		if f.Err.Notify == message.NoAdditionalSAs {
			refused++
		}
	}
	if len(b.installed) != maxChildren || refused != 6 {
		t.Errorf("%d children, %d refused", len(b.installed), refused)
	}
}
