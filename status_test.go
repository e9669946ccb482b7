package martlet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"martlet/config"
	"martlet/esp/udpencap"
)

// Programs read the status of a Node that does nothing yet, too.
func TestStatusOfAnIdleNode(t *testing.T) {
	text, err := json.Marshal(startNode(t, false, fmt.Sprintf(clientText, "127.0.0.1", 4500)).Status())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"listening":[]`, `"ike_sas":[]`, `"drops":{}`, `"connections":["office"]`} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}

// surplus makes sockets that have met some trouble already, each of which counts.
type surplus struct{ udpencap.UDP }

type troubled struct{ udpencap.Socket }

func (s *surplus) Listen(local netip.AddrPort, encap bool) (udpencap.Socket, error) {
	socket, err := s.UDP.Listen(local, encap)
	return troubled{socket}, err
}

func (s troubled) Counters() udpencap.Counters {
	c := s.Socket.(interface{ Counters() udpencap.Counters }).Counters()
	return c.Add(udpencap.Counters{Overflows: 3, TooBig: 2, Congested: 1})
}

// TestDatagramsDropped: what sockets drop shows beside what the plane and the engines drop.
func TestDatagramsDropped(t *testing.T) {
	cfg, err := config.Parse("test.toml", []byte(strings.Replace(gatewayText, `, "::1"]`, "]", 1)), t.TempDir(), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	gateway := &Node{Config: cfg, Serve: true, Bind: &surplus{}}
	if err := gateway.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer gateway.Close()
	at := gateway.Addresses()[0]
	stranger, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := stranger.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	// IKE is behind it.
	client := startNode(t, false, fmt.Sprintf(clientText, at.Addr(), at.Port()))
	if err := client.Connect(testContext(t), ""); err != nil {
		t.Fatal(err)
	}
	want := map[string]uint64{"udp-overflow": 3, "udp-too-big": 2, "udp-congested": 1, "udp-malformed": 1}
	if got := gateway.Status().Drops; !maps.Equal(got, want) {
		t.Errorf("dropped %v, want %v", got, want)
	}
}
