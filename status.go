package martlet

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"martlet/ike"
)

// Status is a Node as people and programs see it. It holds no secret.
type Status struct {
	Version     string            `json:"version"`
	PID         int               `json:"pid"`
	Device      string            `json:"device"`
	MTU         int               `json:"mtu"`
	Listening   []netip.AddrPort  `json:"listening"`
	TCP         []netip.AddrPort  `json:"listening_tcp,omitempty"`
	SAs         []SAStatus        `json:"ike_sas"`
	Drops       map[string]uint64 `json:"drops"` // ESP and IKE packets that were not taken, by reason
	Connections []string          `json:"connections"`
	Waiting     []WaitingStatus   `json:"waiting,omitempty"`
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
	Domains    []string       `json:"domains,omitempty"` // that DNS is for, if not for all
	Since      time.Time      `json:"since,omitzero"`    // when it was established
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
}

// Status takes a picture of the Node. SAs come oldest first.
func (n *Node) Status() Status {
	s := Status{
		Version: Version, PID: os.Getpid(), Device: n.device.Name(), MTU: n.device.MTU(), Drops: n.drops(),
		// Lists are never null in JSON.
		Listening: append([]netip.AddrPort{}, n.Addresses()...), SAs: []SAStatus{}, Connections: []string{},
	}
	for _, c := range connectionsOf(n.conf(), n.Serve) {
		s.Connections = append(s.Connections, c.Name)
	}
	s.TCP = n.sockets.listeningTCP()
	for _, st := range n.engines.statuses() {
		s.SAs = append(s.SAs, n.saStatus(st))
	}
	s.Waiting = n.keepers.waiting()
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
		}
		s.Children = append(s.Children, child)
	}
	return s
}

// drops counts what was not taken, ESP packets as "esp-REASON" and IKE messages as
// "ike-REASON"; reasons that never occurred are left out.
func (n *Node) drops() map[string]uint64 {
	out := map[string]uint64{}
	stats := n.plane.Stats()
	for reason, count := range stats.Drops.All() {
		if count > 0 {
			out["esp-"+reason.String()] += count
		}
	}
	for _, s := range n.engines.shards {
		s.call(func(e *ike.Engine) {
			for _, c := range e.Counters() {
				if c.Count > 0 {
					out["ike-"+c.Reason.String()] += c.Count
				}
			}
		})
	}
	return out
}
