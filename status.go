package martlet

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"martlet/ike"
	"martlet/tun/netstack"
)

// Status is a Node as people and programs see it. It holds no secret.
type Status struct {
	Version     string            `json:"version"`
	PID         int               `json:"pid"`
	Device      string            `json:"device"`
	MTU         int               `json:"mtu"`
	InProcess   bool              `json:"in_process"` // packets end in this process, not at a device
	Listening   []netip.AddrPort  `json:"listening"`
	TCP         []netip.AddrPort  `json:"listening_tcp,omitempty"`
	SAs         []SAStatus        `json:"ike_sas"`
	Drops       map[string]uint64 `json:"drops"` // packets that were not taken, by reason
	Connections []string          `json:"connections"`
	Waiting     []WaitingStatus   `json:"waiting,omitempty"`
	Startup     bool              `json:"startup"`             // a child SA was up once; of a node that only serves, it listens
	Ready       bool              `json:"ready"`               // all is up that is to be up: see Node.Ready
	NotReady    []string          `json:"not_ready,omitempty"` // why not, in a sentence each
	Monitor     netip.AddrPort    `json:"monitor,omitzero"`    // where probes and metrics are served
	Doors       []DoorStatus      `json:"doors,omitempty"`
	Resolvers   *ResolversStatus  `json:"resolvers,omitempty"` // nil while this host asks its own

	// Forwarding is what a Node with Forward does for its peers; nil of others.
	Forwarding *netstack.ForwardStatus `json:"forwarding,omitempty"`
}

// WaitingStatus is a connection that is to be up and is not: what failed, and when the next
// try comes.
type WaitingStatus struct {
	Connection string    `json:"connection"`
	Next       time.Time `json:"next"`
	Text       string    `json:"text"`
	Err        *Error    `json:"error,omitempty"`
}

// SAStatus is one IKE SA.
type SAStatus struct {
	Connection string         `json:"connection"`
	State      string         `json:"state"`
	Initiator  bool           `json:"initiator"`
	SPIi       string         `json:"spi_i"`
	SPIr       string         `json:"spi_r"`
	Transport  string         `json:"transport"` // "udp" or "tcp"
	LocalAddr  netip.AddrPort `json:"local_addr"`
	RemoteAddr netip.AddrPort `json:"remote_addr"`
	LocalID    string         `json:"local_id"`
	RemoteID   string         `json:"remote_id"`
	Suite      string         `json:"suite"` // empty until it is negotiated
	Addresses  []netip.Prefix `json:"virtual_addresses,omitempty"`
	DNS        []netip.Addr   `json:"dns,omitempty"`
	Domains    []string       `json:"domains,omitempty"`       // that DNS is for, if not for all
	Anchors    []string       `json:"trust_anchors,omitempty"` // of Domains, as DS records in zone files
	Since      time.Time      `json:"since,omitzero"`          // when it was established
	Heard      time.Time      `json:"heard,omitzero"`          // when something authentic last came from the peer, by IKE or ESP
	Rekey      time.Time      `json:"rekey_at,omitzero"`       // when it will be replaced by us
	Ends       time.Time      `json:"ends,omitzero"`           // and when it ends if nobody did
	Stages     []StageStatus  `json:"stages,omitempty"`
	Extensions []string       `json:"extensions,omitempty"`
	Conditions []string       `json:"conditions,omitempty"`
	Children   []ChildStatus  `json:"child_sas"`
}

// StageStatus is a named step of setting up an SA and how long it took.
type StageStatus struct {
	Stage string        `json:"stage"`
	Took  time.Duration `json:"took_ns"`
}

// ChildStatus is one child SA pair.
type ChildStatus struct {
	Name       string   `json:"name"`
	SPIIn      string   `json:"spi_in"`
	SPIOut     string   `json:"spi_out"`
	Suite      string   `json:"suite"`
	Local      []string `json:"local_ts"`
	Remote     []string `json:"remote_ts"`
	PacketsIn  uint64   `json:"packets_in"`
	BytesIn    uint64   `json:"bytes_in"`
	PacketsOut uint64   `json:"packets_out"`
	BytesOut   uint64   `json:"bytes_out"`

	Since time.Time `json:"since,omitzero"` // when it was installed
	Heard time.Time `json:"heard,omitzero"` // when something authentic last came by it
	Rekey time.Time `json:"rekey_at,omitzero"`
	Ends  time.Time `json:"ends,omitzero"`
}

// Status takes a picture of the Node. SAs come oldest first.
func (n *Node) Status() Status {
	s := Status{
		Version: Version, PID: n.services.Process(), Device: n.device.Name(), MTU: n.device.MTU(), Drops: n.drops(),
		// Lists are never null in JSON.
		Listening: append([]netip.AddrPort{}, n.Addresses()...), SAs: []SAStatus{}, Connections: []string{},
	}
	for _, c := range connectionsOf(n.conf(), n.Serve) {
		s.Connections = append(s.Connections, c.Name)
	}
	s.TCP = n.sockets.listeningTCP()
	found := n.engines.statuses()
	for _, st := range found {
		s.SAs = append(s.SAs, n.saStatus(st))
	}
	s.Startup, _ = n.startedUp()
	s.Monitor = n.monitor.address()
	ready := n.readiness(n.required(), found)
	s.Ready, s.NotReady = ready.ready, ready.reasons()
	s.Waiting = n.keepers.waiting()
	s.Doors, s.InProcess = n.doors.open, n.stack != nil
	if n.host != nil {
		s.Resolvers = n.host.resolvers.status()
	}
	if n.forwarder != nil {
		forwarding := n.forwarder.Status()
		s.Forwarding = &forwarding
	}
	slices.SortStableFunc(s.SAs, func(a, b SAStatus) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Connection, b.Connection))
	})
	return s
}

func (n *Node) saStatus(st ike.Status) SAStatus {
	s := SAStatus{
		Connection: st.Connection, State: st.State, Initiator: st.Initiator,
		SPIi: st.SPIi.String(), SPIr: st.SPIr.String(),
		LocalAddr: st.Path.Local, RemoteAddr: st.Path.Remote,
		LocalID: st.Local.String(), RemoteID: st.Remote.String(),
		Addresses: st.Lease.Addresses, DNS: st.Lease.DNS, Domains: st.Lease.Domains, Since: st.Since,
		Extensions: st.Extensions, Conditions: st.Conditions, Children: []ChildStatus{},
		Heard: n.heard(&st), Rekey: st.Rekey, Ends: st.Ends,
	}
	for _, anchor := range st.Lease.Anchors {
		s.Anchors = append(s.Anchors, anchor.String())
	}
	s.Transport = "udp"
	if st.Path.Stream {
		s.Transport = "tcp"
	}
	if st.SPIr != 0 {
		s.Suite = st.Suite.String()
	}
	for _, stage := range st.Stages {
		s.Stages = append(s.Stages, StageStatus{Stage: string(stage.Stage), Took: stage.Took})
	}
	for _, c := range st.Children {
		child := ChildStatus{
			Name: c.Name, SPIIn: fmt.Sprintf("%08x", c.SPIIn), SPIOut: fmt.Sprintf("%08x", c.SPIOut), Suite: c.Suite.String(),
			Rekey: c.Rekey, Ends: c.Ends,
		}
		for _, sel := range c.Local {
			child.Local = append(child.Local, sel.String())
		}
		for _, sel := range c.Remote {
			child.Remote = append(child.Remote, sel.String())
		}
		if count, ok := n.plane.ChildStats(uint64(c.ID)); ok {
			child.PacketsIn, child.BytesIn = count.In.Packets, count.In.Bytes
			child.PacketsOut, child.BytesOut = count.Out.Packets, count.Out.Bytes
			child.Since, child.Heard = count.Installed, count.Heard
		}
		s.Children = append(s.Children, child)
	}
	return s
}

// drops counts what was not taken, ESP packets as "esp-REASON", IKE messages as "ike-REASON" and
// datagrams as "udp-REASON"; reasons that never occurred are left out.
func (n *Node) drops() map[string]uint64 {
	out := n.planeDrops()
	for _, s := range n.engines.shards {
		s.call(func(e *ike.Engine) { addDrops(out, e) })
	}
	return out
}

// planeDrops are those of the data plane and its sockets.
func (n *Node) planeDrops() map[string]uint64 {
	out := map[string]uint64{}
	stats := n.plane.Totals()
	for reason, count := range stats.Drops.All() {
		if count > 0 {
			out["esp-"+reason.String()] += count
		}
	}
	for reason, count := range map[string]uint64{
		"overflow": stats.Sockets.Overflows, "too-big": stats.Sockets.TooBig,
		"congested": stats.Sockets.Congested, "malformed": stats.Sockets.Malformed,
	} {
		if count > 0 {
			out["udp-"+reason] = count
		}
	}
	return out
}

// addDrops adds those of an engine.
func addDrops(to map[string]uint64, e *ike.Engine) {
	for _, c := range e.Counters() {
		if c.Count > 0 {
			to["ike-"+c.Reason.String()] += c.Count
		}
	}
}
