package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"time"
)

const charon = "/usr/lib/ipsec/charon"

// charonPlugins are what both programs of strongSwan need. kernel-libipsec comes before
// kernel-netlink, which would take the kernel's ESP.
const charonPlugins = "aes aesni sha1 sha2 random nonce x509 revocation constraints pubkey pkcs1 pkcs8 pem openssl gcm hmac kdf " +
	"drbg curve25519 gmp kernel-libipsec kernel-netlink socket-default"

const (
	charonIKE = "aes256gcm16-prfsha256-x25519"
	charonESP = "aes256gcm16"
)

// openLibipsec has strongSwan at both ends, with its ESP in user space.
func (b *bench) openLibipsec(ctx context.Context, n *network) (*tunnel, error) {
	secret := newSecret()
	t := &tunnel{net: n, to: innerB, from: innerA}
	var err error
	if t.gateway, err = startCharon(ctx, n.b, "b", innerB, charonPeer("b", secret, outerB, outerA, innerB, innerA)); err != nil {
		return nil, err
	}
	if t.client, err = startCharon(ctx, n.a, "a", innerA, charonPeer("a", secret, outerA, outerB, innerA, innerB)); err != nil {
		return nil, err
	}
	_, err = n.a.run(ctx, patience, "swanctl", "--initiate", "--child", "net", "--timeout", "15", "--uri", charonSocket(n, "a"))
	return t, err
}

// charonPeer is a charon's configuration that has one peer.
func charonPeer(role, secret, outer, peer, inner, peerInner string) string {
	return fmt.Sprintf(`
connections { c { version = 2
	local_addrs = %s
	remote_addrs = %s
	proposals = %s
	local { auth = psk
		id = %s.test }
	remote { auth = psk }
	children { net { local_ts = %s/32
		remote_ts = %s/32
		esp_proposals = %s } } } }
secrets { ike-1 { secret = 0x%s } }
`, outer, peer, charonIKE, role, inner, peerInner, charonESP, secret)
}

// openToLibipsec has strongSwan as the gateway, with its ESP in user space, and Martlet as the
// client.
func (b *bench) openToLibipsec(ctx context.Context, n *network) (*tunnel, error) {
	if err := b.build(ctx); err != nil {
		return nil, err
	}
	secret := newSecret()
	t := &tunnel{net: n, to: innerB}
	var err error
	if t.gateway, err = startCharon(ctx, n.b, "b", innerB, charonGateway(secret)); err != nil {
		return nil, err
	}
	file, err := n.pskClient(secret)
	if err != nil {
		return nil, err
	}
	t.client, err = b.upMartlet(n, file)
	return t, err
}

// charonGateway is the configuration of a charon that serves clients wherever they are.
func charonGateway(secret string) string {
	return fmt.Sprintf(`
connections { c { version = 2
	local_addrs = %s
	proposals = %s
	pools = v4
	local { auth = psk
		id = b.test }
	remote { auth = psk }
	children { net { local_ts = %s/32
		esp_proposals = %s } } } }
pools { v4 { addrs = 10.98.1.0/24 } }
secrets { ike-1 { secret = 0x%s } }
`, outerB, charonIKE, innerB, charonESP, secret)
}

func charonSocket(n *network, role string) string {
	return "unix://" + filepath.Join(n.dir, role, "vici.sock")
}

// startCharon starts a charon with the configuration for swanctl, on a host with an address
// inside.
func startCharon(ctx context.Context, h *host, role, inner, conns string) (*process, error) {
	n := h.net
	dir := filepath.Join(n.dir, role)
	conf, err := n.write(role+"/strongswan.conf", fmt.Sprintf(`
charon {
	load_modular = no
	load = %s vici updown
	retransmit_timeout = 1.0
	plugins {
		kernel-libipsec { allow_peer_ts = yes }
		vici { socket = %s }
	}
	filelog { stderr { default = 0 } }
}
`, charonPlugins, charonSocket(n, role)))
	if err != nil {
		return nil, err
	}
	swanctl, err := n.write(role+"/swanctl.conf", conns)
	if err != nil {
		return nil, err
	}
	if err := h.ip(ctx, "addr add "+inner+"/32 dev lo"); err != nil {
		return nil, err
	}
	// A /run of its own: it would find the other one's process there.
	p, err := h.start("charon", []string{"STRONGSWAN_CONF=" + conf},
		"unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /run && exec "+charon)
	if err != nil {
		return nil, err
	}
	if err := until(ctx, "charon's control socket", func() (bool, error) {
		// The file is there before it is listened at.
		c, err := net.DialTimeout("unix", filepath.Join(dir, "vici.sock"), time.Second)
		if err != nil {
			return false, p.fault()
		}
		return true, c.Close()
	}); err != nil {
		return nil, err
	}
	_, err = h.run(ctx, patience, "swanctl", "--load-all", "--file", swanctl, "--uri", charonSocket(n, role))
	return p, err
}

// charonCmd starts strongSwan's client for the command line.
func charonCmd(n *network, p *authority) (*process, error) {
	conf, err := n.write("a/strongswan.conf", fmt.Sprintf(`
charon-cmd {
	load_modular = no
	load = %s
	plugins { kernel-libipsec { allow_peer_ts = yes } }
}
`, charonPlugins))
	if err != nil {
		return nil, err
	}
	return n.a.start("charon-cmd", []string{"STRONGSWAN_CONF=" + conf},
		"charon-cmd", "--debug", "0", "--host", outerB, "--identity", p.client, "--remote-identity", p.gateway, "--profile", "ikev2-pub",
		"--cert", p.path("ca.pem"), "--cert", p.path(p.client+".pem"), "--rsa", p.path(p.client+".key"),
		"--remote-ts", innerB+"/32", "--ike-proposal", charonIKE, "--esp-proposal", charonESP)
}
