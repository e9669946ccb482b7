package level2

import (
	"fmt"
	"net/netip"

	"martlet/config"
)

// pskAuth is one side's proof by the pre-shared key.
func pskAuth(id string) config.Auth {
	return config.Auth{Auth: "psk", ID: id, Secret: config.Secret{Value: []byte(psk)}}
}

// gatewayConfig is a gateway that lets in everybody who has the key.
func gatewayConfig() *config.Config {
	return &config.Config{
		Node:  config.Node{Listen: []netip.Addr{netip.IPv4Unspecified()}, IKEPort: 500, NATPort: 4500},
		Pools: map[string]*config.Pool{"v4": {Addresses: []string{"10.77.0.0/16"}}},
		Connections: map[string]*config.Connection{"clients": {
			Local:    pskAuth("gateway.test"),
			Peer:     pskAuth("*@test"),
			Pool:     []string{"v4"},
			DNS:      []netip.Addr{serverAddr},
			Children: map[string]*config.Child{"net": {Local: []string{"10.1.0.0/16"}}},
		}},
	}
}

// clientConfig is alice.
func clientConfig() *config.Config { return clientConfigOf("alice@test") }

func clientConfigOf(id string) *config.Config {
	return &config.Config{
		Connections: map[string]*config.Connection{"office": {
			Remote:   []string{gatewayAddr.String()},
			Keep:     config.KeepManual,
			Local:    pskAuth(id),
			Peer:     pskAuth("gateway.test"),
			Request:  []string{"ipv4"},
			Children: map[string]*config.Child{"net": {Remote: []string{"10.1.0.0/16"}}},
		}},
	}
}

func clientName(i int) string { return fmt.Sprintf("client-%d@test", i) }

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }
