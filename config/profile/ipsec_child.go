package profile

import (
	"slices"
	"strings"
	"time"

	"martlet/config"
	"martlet/crypto/suite"
)

// child carries over what a conn protects; nil if that cannot be.
func (p *ipsec) child(e *ends) *config.Child {
	child := &config.Child{}
	if child.Local = p.subnets(e, e.local); child.Local == nil {
		return nil
	}
	if child.Remote = p.subnets(e, e.remote); child.Remote == nil {
		return nil
	}
	esp := e.get("esp")
	if other := e.get("phase2alg"); other != "" {
		esp = other
	}
	groups := ""
	if p.libreswan && isYes(e.get("pfs"), true) {
		groups = libreswanGroups(e.v["ike"])
	}
	child.Proposals = p.suites(e.at("esp"), suite.ProtocolESP, esp, groups)
	if text := e.get("replay_window") + e.get("replay-window"); text == "0" {
		p.note(e.at("replay_window"), "not carried over: packets that are repeated are always dropped")
	}
	if text := e.get("tfc"); text == "%mtu" {
		child.TFC = -1
	} else if n := p.number(e.at("tfc"), text); n > 0 {
		child.TFC = min(n, 1500)
	}
	return child
}

func (d *draft) number(place, text string) int {
	if text == "" {
		return 0
	}
	b := newBag("", map[string]any{"n": text})
	n := b.number("n", -1)
	if n < 0 {
		d.note(place, "%s is no number", quoted(text))
	}
	return n
}

// subnets carries over the traffic selectors of a side.
func (p *ipsec) subnets(e *ends, side string) []string {
	text := e.get(side + "subnet")
	if many := e.get(side + "subnets"); many != "" {
		text += " " + strings.Trim(many, "{}")
		p.note(e.at(side+"subnets"), "changed: there is one child with all subnets, and not one for each pair")
	}
	for _, word := range list(text) {
		if strings.HasPrefix(word, "vhost:") || strings.HasPrefix(word, "vnet:") {
			p.note(e.at(side+"subnet"), "left out: %s has no counterpart", quoted(word))
			return nil
		}
	}
	out := p.selectors(e.at(side+"subnet"), text)
	protoport := e.get(side + "protoport")
	if protoport == "" || out == nil {
		return out
	}
	for i, ts := range out {
		switch {
		case ts == "dynamic":
			p.note(e.at(side+"protoport"), "left out: a selector of the dynamic address has no protocol or port here")
			return nil
		case !strings.Contains(ts, "["):
			out[i] = ts + "[" + protoport + "]"
		}
	}
	return out
}

// lifetimes carries over when SAs are replaced: a margin before they end.
func (p *ipsec) lifetimes(e *ends, c *config.Connection, child *config.Child) {
	margin := config.Duration(9 * time.Minute)
	for _, k := range []string{"margintime", "rekeymargin"} {
		if d := p.duration(e.at(k), e.get(k)); d > 0 {
			margin = d
		}
	}
	set := func(rekey, lifetime *config.Duration, keys ...string) {
		for _, k := range keys {
			life := p.duration(e.at(k), e.get(k))
			if life <= 0 {
				continue
			}
			if *rekey = life - margin; *rekey < life/2 || life < *rekey+*rekey/20 {
				*rekey = life * 9 / 10
			}
			*lifetime = life
		}
	}
	set(&c.Rekey, &c.Lifetime, "ikelifetime")
	set(&child.Rekey, &child.Lifetime, "keylife", "lifetime", "salifetime")
	if e.get("rekey") == "no" {
		c.Rekey, child.Rekey = config.Never, config.Never
	}
	if e.get("reauth") == "yes" {
		c.Reauth = max(c.Rekey, 0)
		if c.Rekey <= 0 {
			c.Reauth = config.Duration(3*time.Hour) - margin
		}
	}
}

// auto carries over when the conn is open.
func (p *ipsec) auto(e *ends, c *config.Connection) {
	auto := e.get("auto")
	if len(c.Remote) == 0 {
		if auto != "add" {
			p.note(e.at("auto"), "not carried over: the connection has no remote to call")
		}
		return
	}
	switch auto {
	case "start", "up", "keep":
		c.Keep = config.KeepUp
	case "route", "ondemand":
		c.Keep = config.KeepOnDemand
	default:
		c.Keep = config.KeepManual
		for _, k := range []string{"dpdaction", "closeaction"} {
			if v := e.get(k); v == "restart" || v == "hold" {
				p.note(e.at(k), "not carried over: what is opened by hand stays closed when it is lost; keep = \"up\" opens it again")
			}
		}
	}
}

// leftovers notes the keys that were not carried over.
func (p *ipsec) leftovers(e *ends) {
	why := map[string]string{
		"compress": "not carried over: nothing is compressed", "dpdtimeout": "not carried over: it is about IKEv1; with IKEv2 retransmission tells",
		"rekeyfuzz": "not carried over: rekeying is spread over a tenth of its time by itself", "keyingtries": "not carried over: a connection with keep = \"up\" is tried for ever",
		"mark": kernelNote, "mark_in": kernelNote, "mark_out": kernelNote, "reqid": kernelNote, "installpolicy": kernelNote, "priority": kernelNote,
		"vti-interface": kernelNote, "vti-routing": kernelNote, "vti-shared": kernelNote, "ipsec-interface": kernelNote, "nic-offload": kernelNote,
		"aggressive": "not carried over: it is about IKEv1", "modeconfig": "not carried over: it is about IKEv1", "xauth": "not carried over: XAuth is of IKEv1",
		"modecfgpull": "not carried over: it is about IKEv1", "inactivity": "not carried over: a child stays open when it is idle",
		"ms-dh-downgrade": "not carried over: a peer cannot choose a weaker group when it rekeys", "sha2-truncbug": "not carried over: SHA-256 is always cut to 128 bits",
		"lifebytes": "not carried over: rekey_bytes in the child is nearest to it", "lifepackets": "not carried over: rekey_packets in the child is nearest to it",
	}
	sides := map[string]string{
		"firewall": "not carried over: no rules are set for what comes out of the tunnel", "updown": "not carried over: no script is run when a connection opens or closes",
		"hostaccess": "not carried over: no rules are set for what comes out of the tunnel", "nexthop": "not carried over: the routing table of the host tells",
		"allowany": "not carried over: a peer may come from the addresses of remote, or of from", "certpolicy": "not carried over: policies of certificates are not looked at",
		"sendcert": "not carried over: the certificate is always sent",
	}
	// What the program does by default, and Martlet too, needs no words.
	quiet := []string{"closeaction", "dpdaction", "narrowing", "ikev2", "keyexchange", "leftsendcert", "rightsendcert", "modecfgserver", "rekeymargin", "reauth", "intermediate"}
	for _, k := range sortedKeys(e.v) {
		side := strings.TrimPrefix(strings.TrimPrefix(k, "left"), "right")
		switch {
		case e.asked[k], side == "rsasigkey" && e.v[k] == "%cert":
		case (k == "leftsendcert" || k == "rightsendcert") && e.v[k] == "never":
			p.note(e.at(k), "%s", sides["sendcert"])
		case slices.Contains(quiet, k), slices.Contains(quiet, side), k == "compress" && e.v[k] == "no", (side == "firewall" || side == "hostaccess") && side != k && e.v[k] == "no":
		case why[k] != "":
			p.note(e.at(k), "%s", why[k])
		case side != k && sides[side] != "":
			p.note(e.at(k), "%s", sides[side])
		default:
			p.note(e.at(k), "not carried over: Martlet has no such thing")
		}
	}
}
