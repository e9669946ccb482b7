package profile

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"martlet/config"
	"martlet/crypto/suite"
)

func awsFormat() format {
	return format{"AWS customer gateway configuration (XML)", func(data []byte) bool {
		head := bytes.TrimLeft(data[:min(len(data), 4000)], "\xef\xbb\xbf \t\r\n")
		return bytes.HasPrefix(head, []byte("<")) && bytes.Contains(head, []byte("<vpn_connection"))
	}, readAWS}
}

// awsTunnels is the place of what the tunnels have in common, which is noted once.
const awsTunnels = "ipsec_tunnel"

// awsSuite is what is read of ike and of ipsec.
type awsSuite struct {
	authentication, encryption, group string
}

// only is the first element with a name, an empty one if there is none.
func (e *element) only(name string) *element {
	if all := e.all(name); len(all) > 0 {
		return all[0]
	}
	return &element{}
}

// awsSuiteOf reads one of the two suites.
func awsSuiteOf(e *element) awsSuite {
	return awsSuite{e.at("authentication_protocol"), e.at("encryption_protocol"), e.at("perfect_forward_secrecy")}
}

// number is the integer at the end of a path, 0 if there is none.
func (e *element) number(path ...string) int {
	n, _ := strconv.Atoi(e.at(path...)) // 0 with an error
	return n
}

// readAWS carries over the tunnels of a connection, of which there are two.
func readAWS(d *draft, data []byte) error {
	root, err := readXML(data, maxPlist)
	if err != nil {
		return err
	}
	tunnels := root.all(awsTunnels)
	for i, t := range tunnels[:min(len(tunnels), 16)] {
		d.awsTunnel(fmt.Sprintf("%s[%d]", awsTunnels, i), fmt.Sprintf("%s-%d", root.attributes["id"], i+1), t)
	}
	return nil
}

func (d *draft) awsTunnel(at, name string, t *element) {
	ike, ipsec, customer := t.only("ike"), t.only("ipsec"), t.only("customer_gateway")
	if protocol := ipsec.at("protocol"); protocol != "" && !strings.EqualFold(protocol, "esp") {
		d.note(at+".ipsec.protocol", "left out: %s is not ESP", quoted(protocol))
		return
	}
	c := d.connection(name)
	if c.Remote = d.hosts(at+".vpn_gateway", t.at("vpn_gateway", "tunnel_outside_address", "ip_address")); len(c.Remote) == 0 {
		d.note(at+".vpn_gateway", "left out: the outside address of AWS is missing")
		return
	}
	c.Local.Auth, c.Peer.Auth = "psk", "psk"
	// Behind a NAT our own address is another one.
	c.Local.ID, c.Peer.ID = d.literal(at+".customer_gateway", customer.at("tunnel_outside_address", "ip_address")), d.literal(at+".vpn_gateway", t.at("vpn_gateway", "tunnel_outside_address", "ip_address"))
	if c.Local.Secret = d.secret("psk.txt", []byte(ike.at("pre_shared_key"))); c.Local.Secret.Source == "" {
		c.Local.Secret = d.missingSecret(at+".ike.pre_shared_key", "psk.txt", "the pre-shared key")
	}
	c.NoMOBIKE = true // AWS does not know it
	child := &config.Child{Local: []string{"0.0.0.0/0"}, Remote: []string{"0.0.0.0/0"}}
	c.Proposals = d.proposals(awsTunnels+".ike", suite.ProtocolIKE, d.awsSuite(awsTunnels+".ike", awsSuiteOf(ike)))
	child.Proposals = d.proposals(awsTunnels+".ipsec", suite.ProtocolESP, d.awsSuite(awsTunnels+".ipsec", awsSuiteOf(ipsec)))
	life := func(rekey, lifetime *config.Duration, seconds int) {
		if seconds >= 300 && seconds <= 86400 {
			// AWS ends an SA at its time, so ours is replaced well before.
			*lifetime = config.Duration(seconds) * config.Duration(time.Second)
			*rekey = *lifetime * 8 / 10
		}
	}
	life(&c.Rekey, &c.Lifetime, ike.number("lifetime"))
	life(&child.Rekey, &child.Lifetime, ipsec.number("lifetime"))
	if dpd := ipsec.number("dead_peer_detection", "interval"); dpd > 0 && dpd < 3600 {
		c.Liveness = config.Duration(dpd) * config.Duration(time.Second)
	}
	c.Children["net"] = child
	c.Routes = config.Routes{None: true}
	d.note(at, "the tunnel takes everything: routes = \"none\" sends nothing into it; list there the networks of your VPC, as in routes = [\"10.0.0.0/16\"]")
	if inside := customer.at("tunnel_inside_address", "ip_address"); inside != "" {
		d.note(at+".customer_gateway.tunnel_inside_address", "not carried over: give the device the address %s by hand if BGP or health checks of AWS need it",
			shown(inside+"/"+customer.at("tunnel_inside_address", "network_cidr")))
	}
	if customer.at("bgp", "asn") != "" {
		d.note(awsTunnels+".customer_gateway.bgp", "not carried over: BGP is another program's")
	}
	if ipsec.at("tcp_mss_adjustment") != "" {
		d.note(awsTunnels+".ipsec.tcp_mss_adjustment", "not carried over: Martlet computes it")
	}
	d.note(awsTunnels+".ike.mode", "changed: the file is the same for IKEv1 and IKEv2, and here it is IKEv2, which the tunnel's options at AWS must allow")
	d.keep(c)
}

// awsWords are AWS's names in strongSwan's keywords.
var awsWords = sync.OnceValue(func() map[string]string {
	return map[string]string{
		"aes-128-cbc": "aes128", "aes-256-cbc": "aes256", "aes-128-gcm-16": "aes128gcm16", "aes-256-gcm-16": "aes256gcm16", "aes128-gcm-16": "aes128gcm16", "aes256-gcm-16": "aes256gcm16",
		"sha1": "sha1", "sha256": "sha256", "sha2-256": "sha256", "sha2-384": "sha384", "sha2-512": "sha512", "hmac-sha1-96": "sha1", "hmac-sha2-256": "sha256", "hmac-sha2-384": "sha384", "hmac-sha2-512": "sha512",
		"hmac-sha2-256-128": "sha256", "hmac-sha2-384-192": "sha384", "hmac-sha2-512-256": "sha512",
	}
})

// awsSuite writes the algorithms in strongSwan's keywords.
func (d *draft) awsSuite(at string, s awsSuite) []string {
	var words []string
	for _, name := range []string{s.encryption, s.authentication} {
		name = strings.ToLower(strings.TrimSpace(name))
		if awsWords()[name] == "" {
			d.note(at, "%s is not known", quoted(name))
			continue
		}
		words = append(words, awsWords()[name])
	}
	number := newBag("", map[string]any{"group": strings.TrimPrefix(strings.ToLower(strings.TrimSpace(s.group)), "group")}).number("group", 0)
	if group := groupWords()[number]; group != "" {
		words = append(words, group)
	} else {
		d.note(at+".perfect_forward_secrecy", "%s is not known", quoted(s.group))
	}
	return []string{strings.Join(words, "-")}
}
