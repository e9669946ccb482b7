package profile

import (
	"maps"
	"reflect"
	"slices"
	"sync"

	"martlet/config"
)

// limits are what a kind of client can.
type limits struct {
	port      bool // another UDP port of the peer than 500 and 4500
	localPort bool // a UDP port of its own choice
	proofs    bool // a second proof of who one is
	pinned    bool // one certificate of the peer in place of a CA
	networks  bool // networks behind itself, and to be without a virtual address
	children  bool // several
	remotes   bool // several gateways, in turn
	ppk       bool // post-quantum pre-shared keys
}

// check refuses what does not work at all there.
func (x *exporter) check() error {
	c := x.c
	switch {
	case len(c.Remote) == 0:
		return x.cannot("it has no remote: it waits for peers, and a profile is for who calls", "export the connection of a client: one with remote = [\"the name of this gateway\"]")
	case c.Port != 0 && !x.can.port:
		return x.cannot("the gateway's port is another one than 500 and 4500, which no key there says", "open 500 and 4500 at the gateway and remove port, or export for a client of strongSwan: sswan, networkmanager, swanctl")
	case c.TCP == config.TCPAlways:
		return x.cannot("tcp = \"always\", and it has IKE over UDP alone", "set tcp = \"auto\" if the gateway can be reached by UDP, too")
	case !x.can.proofs && (c.Local2.IsSet() || c.Peer2.IsSet()):
		return x.cannot("it gives and takes one proof, and the connection has a second one (RFC 4739)", "remove local2 and peer2, or export for sswan or swanctl")
	case c.PPKRequired && !x.can.ppk:
		return x.cannot("ppk_required is set, and it has no post-quantum pre-shared keys", "remove ppk_required, or export for mobileconfig or swanctl")
	case c.PostQuantum == config.PostQuantumRequire && !x.strongswan():
		return x.cannot("post_quantum = \"require\", and how a profile asks for ML-KEM there is not known", "set post_quantum = \"prefer\", or export for a client of strongSwan: swanctl, networkmanager, sswan")
	case len(c.Children) > 1 && !x.can.children:
		return x.cannot("it opens one child, and the connection has several", "put their remote sides into one child, or export for swanctl")
	case !x.can.pinned && (len(c.Peer.Cert) > 0 || len(c.Peer.Verifier.Keys) > 0):
		return x.cannot("the peer's only certificate is named, and there a CA must be", "name the CA of the gateway's certificate in ca, and remove cert")
	}
	if !x.can.networks {
		if len(c.Request) == 0 {
			return x.cannot("it asks for no virtual address, without which there is no tunnel there", "request = [\"ipv4\", \"ipv6\"]; for a site with networks behind it export for swanctl")
		}
		for _, child := range c.Children {
			if len(child.LocalTS) > 0 {
				return x.cannot("its child "+child.Name+" has networks on our side, and there one device is", "remove local from the child, or export for swanctl")
			}
		}
	}
	x.carry("remote", "port", "local.auth", "peer.auth")
	if len(c.Remote) > 1 && !x.can.remotes {
		x.note("remote", "only the first one, %s, is called: there is room for one", c.Remote[0])
	}
	return nil
}

// strongswan tells whether it takes proposals in strongSwan's keywords.
func (x *exporter) strongswan() bool {
	return slices.Contains([]string{"sswan", "swanctl", "ipsec", "networkmanager"}, x.name)
}

// exportWhy is what to say about keys that have no counterpart, where there is more to say than that.
var exportWhy = sync.OnceValue(func() map[string]string {
	return map[string]string{
		"tickets":          "not carried over: it resumes no SA, and proves itself anew",
		"reauth":           "not carried over: it proves itself anew when the gateway says so",
		"routes":           "not carried over: it sends into the tunnel what the gateway agrees to",
		"request":          "not carried over: it asks for addresses of both families, and takes what there is",
		"local.eap_id":     "not carried over: the name in user is heard by the gateway, and by who stands between",
		"local.eap_server": "not carried over: the name of the EAP server is that of the gateway, or any",
		"local.eap_ca":     "not carried over: the EAP server's certificate must be below the CA of the gateway",
		"local.inner":      "not carried over: the server chooses the method inside the tunnel",
		"local.tls":        "not carried over: the two choose the version of TLS",
		"peer.revocation":  "not carried over: whether certificates are revoked is not asked, or as that system is set",
		"strict":           "not carried over: which hashes are good enough that program knows by itself",
		"ppk":              "not carried over: it has no post-quantum pre-shared keys",
		"child.remote":     "not carried over: it asks for everything, and the gateway says what it gets",
		"rekey":            "not carried over: when SAs are replaced that program knows by itself",
		"child.rekey":      "not carried over: when SAs are replaced that program knows by itself",
		"lifetime":         "not carried over: when SAs end that program knows by itself",
		"child.lifetime":   "not carried over: when SAs end that program knows by itself",
	}
})

// rest notes the keys that are set to something and that nobody marked as carried, so that nothing
// is dropped silently.
func (x *exporter) rest() {
	usual := &config.Connection{Remote: x.c.Remote[:1], Local: config.Auth{Auth: "psk", Secret: config.Secret{Value: []byte("nobody's")}}, Peer: config.Auth{Auth: "psk"}, Keep: x.c.Keep}
	// A fault of it would be ours; then more is noted than must be.
	_ = (&config.Config{Connections: map[string]*config.Connection{"usual": usual}}).Complete()
	usual.Local, usual.Peer = config.Auth{}, config.Auth{}
	usual.PPKs = map[string]*config.PPK{"": {}}
	x.table("", "", reflect.ValueOf(*x.c), reflect.ValueOf(*usual))
	if x.all.Node.KillSwitch {
		x.Notes = append(x.Notes, Note{Place: "node.kill_switch", Text: "not carried over, since it is about this host: set the like of it at the other one"})
	}
	if d := x.all.DNS; len(d.TunnelServers)+len(d.Tunnel)+len(d.Host)+len(d.Refuse) > 0 {
		x.Notes = append(x.Notes, Note{Place: "dns", Text: "not carried over, since it is about this host: the gateway tells the resolvers"})
	}
}

// table notes what is left of a table. key is how carry calls it, and path how people do.
func (x *exporter) table(key, path string, v, usual reflect.Value) {
	for i := range v.NumField() {
		name, field := v.Type().Field(i).Tag.Get("toml"), v.Field(i)
		if name == "" || name == "-" || field.IsZero() || x.carried[key+name] || reflect.DeepEqual(field.Interface(), usual.Field(i).Interface()) {
			continue
		}
		switch {
		case isTable(field):
			x.table(key+name+".", path+name+".", field, usual.Field(i))
		case name == "child":
			for _, k := range slices.Sorted(maps.Keys(x.c.Children)) {
				x.table("child.", path+name+"."+k+".", reflect.ValueOf(*x.c.Children[k]), reflect.ValueOf(*usual.Field(i).Interface().(map[string]*config.Child)["net"]))
			}
		default:
			why := exportWhy()[key+name]
			if why == "" {
				why = "not carried over: " + x.people + " has no such key"
			}
			x.note(path+name, "%s", why)
		}
	}
}
