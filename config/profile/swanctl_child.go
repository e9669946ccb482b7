package profile

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"martlet/config"
	"martlet/crypto/suite"
)

func swanctlChildWithout() map[string]string {
	return map[string]string{
		"updown": "not carried over: no script is run when a connection opens or closes", "hostaccess": "not carried over: it is for the script updown",
		"sha256_96": "not carried over: SHA-256 is always cut to 128 bits", "ipcomp": "not carried over: nothing is compressed",
		"rand_time": "not carried over: rekeying is spread over a tenth of its time by itself", "rand_bytes": "not carried over: rekeying is spread by itself", "rand_packets": "not carried over: rekeying is spread by itself",
		"life_bytes": "not carried over: a child SA ends a tenth after rekey_bytes", "life_packets": "not carried over: a child SA ends after its last sequence number",
		"inactivity": "not carried over: a child stays open when it is idle", "reqid": kernelNote, "priority": kernelNote, "interface": kernelNote,
		"mark_in": kernelNote, "mark_out": kernelNote, "mark_in_sa": kernelNote, "set_mark_in": kernelNote, "set_mark_out": kernelNote, "if_id_in": kernelNote, "if_id_out": kernelNote,
		"label": kernelNote, "label_mode": kernelNote, "hw_offload": kernelNote, "policies": kernelNote, "policies_fwd_out": kernelNote, "per_cpu_sas": "not carried over: parallel = N in the child is nearest to it",
		"copy_df": "not carried over: the outer packet is never fragmented by us", "copy_ecn": "not carried over: ECN follows RFC 6040",
		"ah_proposals": "not carried over: there is no AH", "pcpu_ts": kernelNote,
	}
}

// child carries over one child.
func (s *swanctl) child(c *config.Connection, name string, in *settings) {
	v := in.values
	if mode := v["mode"]; mode != "" && mode != "tunnel" {
		s.note(in.at("mode"), "the child %s is left out: its mode is %s, and Martlet has tunnels only", quoted(name), quoted(mode))
		return
	}
	if v["ah_proposals"] != "" && v["esp_proposals"] == "" {
		s.note(in.at("ah_proposals"), "the child %s is left out: it is AH, and Martlet has ESP", quoted(name))
		return
	}
	taken := map[string]bool{}
	for have := range c.Children {
		taken[have] = true
	}
	child := &config.Child{}
	if child.Local = s.selectors(in.at("local_ts"), v["local_ts"]); len(child.Local) == 0 {
		return
	}
	if child.Remote = s.selectors(in.at("remote_ts"), v["remote_ts"]); len(child.Remote) == 0 {
		return
	}
	child.Proposals = s.proposals(in.at("esp_proposals"), suite.ProtocolESP, list(v["esp_proposals"]))
	child.Rekey = s.duration(in.at("rekey_time"), v["rekey_time"])
	s.lives(in.at("life_time"), &child.Lifetime, child.Rekey, s.duration(in.at("life_time"), v["life_time"]))
	child.RekeyBytes, child.RekeyPackets = s.count(in, "rekey_bytes"), s.count(in, "rekey_packets")
	if text := v["tfc_padding"]; text == "mtu" {
		child.TFC = -1
	} else {
		child.TFC = int(min(s.count(in, "tfc_padding"), 1500))
	}
	if n := s.count(in, "replay_window"); n > 0 {
		if child.ReplayWindow = int(min(max(n, 64), 65536)); uint64(child.ReplayWindow) != n {
			s.note(in.at("replay_window"), "changed to %d: Martlet has 64 to 65536", child.ReplayWindow)
		}
	} else if v["replay_window"] == "0" {
		s.note(in.at("replay_window"), "not carried over: packets that are repeated are always dropped")
	}
	child.CopyDSCP = v["copy_dscp"] == "out" || v["copy_dscp"] == "yes"
	switch action := v["start_action"]; {
	case len(c.Remote) == 0 && action != "" && action != "none":
		s.note(in.at("start_action"), "not carried over: the connection has no remote to call")
	case len(c.Remote) == 0:
	case strings.Contains(action, "start"):
		child.Keep = config.KeepUp
	case action == "trap", action == "route":
		child.Keep = config.KeepOnDemand
	default:
		child.Keep = config.KeepManual
	}
	if child.Keep == config.KeepManual {
		for _, k := range []string{"dpd_action", "close_action"} {
			if v[k] == "restart" || v[k] == "start" || v[k] == "trap" {
				s.note(in.at(k), "not carried over: what is opened by hand stays closed when it is lost; keep = \"up\" opens it again")
			}
		}
	}
	s.rest(in, swanctlChildWithout(), "mode", "local_ts", "remote_ts", "esp_proposals", "rekey_time", "life_time", "rekey_bytes", "rekey_packets", "tfc_padding", "replay_window",
		"copy_dscp", "start_action", "dpd_action", "close_action")
	c.Children[s.unique(name, taken)] = child
}

// keeps makes the connection as open as its children, and leaves to those what they have of
// their own.
func (s *swanctl) keeps(in *settings, c *config.Connection) {
	if len(c.Remote) == 0 {
		return
	}
	if c.Keep = config.KeepManual; len(c.Children) == 0 {
		s.note(in.at("children"), "there are none: a default one protects everything that the gateway agrees to")
	}
	for _, k := range []config.Keep{config.KeepUp, config.KeepOnDemand} {
		for _, child := range c.Children {
			if child.Keep == k && c.Keep == config.KeepManual {
				c.Keep = k
			}
		}
	}
	for _, child := range c.Children {
		if child.Keep == c.Keep {
			child.Keep = ""
		}
	}
}

// selectors carries over traffic selectors; none are the default, which is dynamic. Nothing is
// returned if one of them cannot be carried over, for the others would be another policy.
func (d *draft) selectors(place, text string) []string {
	out := distinct(list(text))
	if len(out) == 0 {
		return []string{"dynamic"}
	}
	for i, ts := range out {
		if rest, ok := strings.CutPrefix(ts, "dynamic["); ok {
			d.note(place, "left out: %s: a selector of the dynamic address has no protocol or port here", quoted("dynamic["+rest))
			return nil
		}
		addresses, ports, _ := strings.Cut(ts, "[")
		if addresses == "dynamic" {
			continue
		}
		if strings.Contains(ports, "%opaque") {
			d.note(place, "left out: %s: ports cannot be opaque", quoted(ts))
			return nil
		}
		p, err := prefixes(addresses)
		if err != nil {
			d.note(place, "left out: %s is no traffic selector", quoted(ts))
			return nil
		}
		if len(p) == 1 && strings.Contains(addresses, "/") {
			out[i] = strings.Replace(ts, addresses, p[0].String(), 1) // 10.1.2.3/16 is 10.1.0.0/16
		}
	}
	return distinct(out)
}

func (s *swanctl) count(in *settings, key string) uint64 {
	text := in.values[key]
	if text == "" {
		return 0
	}
	shift := 0
	for suffix, n := range map[string]int{"k": 10, "K": 10, "m": 20, "M": 20, "g": 30, "G": 30} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			text, shift = rest, n
		}
	}
	n, err := strconv.ParseUint(text, 10, 33)
	if err != nil {
		s.note(in.at(key), "%s is no number that Martlet counts to", quoted(in.values[key]))
		return 0
	}
	return n << shift
}

// pools carries over the pools of addresses of a gateway.
func (s *swanctl) pools(in *settings) {
	s.resolvers = map[string][]netip.Addr{}
	for _, name := range in.order {
		pool := in.section(name)
		p := &config.Pool{Name: name, Addresses: s.ranges(list(pool.values["addrs"]))}
		for _, text := range list(pool.values["dns"]) {
			if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
				s.resolvers[name] = append(s.resolvers[name], a.Unmap())
			} else {
				s.note(pool.at("dns"), "%s is no address", quoted(text))
			}
		}
		s.note(pool.at("addrs"), "changed: the first address of a prefix is the gateway's own inside the tunnel")
		if len(s.Pools) < maxConnections && !slices.ContainsFunc(s.Pools, func(q *config.Pool) bool { return q.Name == name }) {
			s.Pools = append(s.Pools, p)
		}
		s.rest(pool, nil, "addrs", "dns")
	}
}

func compareAddr(a, b netip.Addr) int { return a.Compare(b) }

// ranges writes prefixes as config wants them, without the bits of a host.
func (d *draft) ranges(all []string) []string {
	var out []string
	for _, text := range all {
		if p, err := prefixes(text); err == nil && len(p) == 1 && strings.Contains(text, "/") {
			text = p[0].String()
		}
		out = append(out, text)
	}
	return out
}
