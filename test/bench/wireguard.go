package main

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

const (
	wireguardPort = 51820
	wireguardMTU  = 1420 // of its own TUN device
)

// keyPair is an end's keys as wireguard's configuration protocol writes them.
type keyPair struct{ private, public string }

func newKeyPair() (keyPair, error) {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return keyPair{}, err
	}
	return keyPair{hex.EncodeToString(k.Bytes()), hex.EncodeToString(k.PublicKey().Bytes())}, nil
}

// wireguardEnd is the configuration of one end.
func wireguardEnd(own, peer keyPair, endpoint string) string {
	return fmt.Sprintf("private_key=%s\nlisten_port=%d\npublic_key=%s\nallowed_ip=0.0.0.0/0\nendpoint=%s:%d\n",
		own.private, wireguardPort, peer.public, endpoint, wireguardPort)
}

// openWireguard has wireguard-go at both ends.
func (b *bench) openWireguard(ctx context.Context, n *network) (*tunnel, error) {
	ours, theirs, err := twoKeyPairs()
	if err != nil {
		return nil, err
	}
	t := &tunnel{net: n, to: innerB}
	if t.gateway, err = b.startWireguard(ctx, n.b, innerB, innerA, wireguardEnd(theirs, ours, outerA)); err != nil {
		return nil, err
	}
	t.client, err = b.startWireguard(ctx, n.a, innerA, innerB, wireguardEnd(ours, theirs, outerB))
	return t, err
}

func twoKeyPairs() (a, b keyPair, err error) {
	if a, err = newKeyPair(); err == nil {
		b, err = newKeyPair()
	}
	return a, b, err
}

// startWireguard starts wireguard-go with an address and a route to the peer's.
func (b *bench) startWireguard(ctx context.Context, h *host, address, peer, conf string) (*process, error) {
	if err := b.buildWireguard(ctx); err != nil {
		return nil, err
	}
	// All its control sockets are in one folder, whatever the namespace: the device's name
	// must be nobody else's.
	device := fmt.Sprintf("wg%d%s", os.Getpid(), h.name[len(h.name)-1:])
	p, err := h.start("wireguard-go", []string{"LOG_LEVEL=error"}, b.built.wireguard, "-f", device)
	if err != nil {
		return nil, err
	}
	socket := "/var/run/wireguard/" + device + ".sock"
	if err := until(ctx, "wireguard-go's control socket", func() (bool, error) {
		return configureWireguard(socket, conf) == nil, p.fault()
	}); err != nil {
		return nil, err
	}
	for _, args := range []string{
		"addr add " + address + "/32 dev " + device,
		"link set " + device + " up",
		"route add " + peer + "/32 dev " + device,
	} {
		if err := h.ip(ctx, args); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// configureWireguard speaks wireguard's configuration protocol.
func configureWireguard(socket, conf string) error {
	c, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "set=1\n"+conf+"\n"); err != nil {
		return err
	}
	answer := make([]byte, 256)
	n, err := c.Read(answer)
	if err != nil {
		return err
	}
	if !strings.Contains(string(answer[:n]), "errno=0\n") {
		return fmt.Errorf("wireguard-go refuses its configuration: %s", answer[:n])
	}
	return nil
}
