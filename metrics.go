package martlet

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"sort"
	"time"

	"martlet/ike"
)

// The metrics of a Node are sums by connection and child, however many peers there are, and name
// neither peers nor their addresses. Each scrape asks each engine once, and reads the counters of
// each child SA; it allocates by the number of connections, not by that of SAs.

// census is what the engines have of a connection.
type census struct {
	states       map[string]int // SAs by state
	up           bool           // one of them stands, with a child
	since, heard time.Time      // the latest of those that stand
}

// saStates are those of IKE SAs that are always told of, also where there are none.
var saStates = []string{"connecting", "deleting", "established"}

// metrics tells how the Node does, in the text format of Prometheus.
func (n *Node) metrics(ctx context.Context) ([]byte, error) {
	if !n.health.running.Load() {
		return nil, errors.New("it is not started yet")
	}
	x := &exposition{text: make([]byte, 0, 16<<10)}
	if err := n.tunnelMetrics(ctx, x); err != nil {
		return nil, err
	}
	n.eventMetrics(x)
	proxyMetrics(x, n.doors.counters.Snapshot())
	if n.forwarder != nil {
		forwardMetrics(x, n.forwarder.Status())
	}
	processMetrics(x)
	return x.text, nil
}

// names are the configured connections; of very many only the first.
func (n *Node) names() []string {
	names := slices.Sorted(maps.Keys(n.conf().Connections))
	return names[:min(len(names), maxSeries)]
}

func (n *Node) tunnelMetrics(ctx context.Context, x *exposition) error {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	byName, drops := map[string]*census{}, n.planeDrops()
	for _, name := range n.names() {
		byName[name] = &census{states: map[string]int{}}
	}
	err := n.engines.visit(ctx, func(e *ike.Engine) {
		e.Briefs(func(b ike.Brief) {
			if c := byName[b.Connection]; c != nil {
				c.add(b)
			}
		})
		addDrops(drops, e)
	})
	if err != nil {
		return err
	}
	sums := n.traffic.sums(n.plane)
	for b, l := range sums {
		if c := byName[b.connection]; c != nil && c.up && l.heard.After(c.heard) {
			c.heard = l.heard
		}
	}

	x.gauge("martlet_build_info", "The program's version; the value is always 1.")
	x.count(1, "version", Version, "go_version", runtime.Version())
	x.gauge("martlet_start_time_seconds", "When the Node was started, as Unix time.")
	x.value(unixSeconds(n.health.since))
	x.gauge("martlet_uptime_seconds", "For how long the Node runs.")
	x.value(time.Since(n.health.since).Seconds())
	n.healthMetrics(ctx, x)
	connectionMetrics(x, byName)
	trafficMetrics(x, sums)
	x.counter("martlet_dropped_total", "What was not taken: ESP and inner packets, IKE messages, datagrams.")
	for _, reason := range slices.Sorted(maps.Keys(drops)) {
		x.count(drops[reason], "reason", reason)
	}
	return nil
}

// connectionMetrics are what the engines have of each connection.
func connectionMetrics(x *exposition, byName map[string]*census) {
	names := slices.Sorted(maps.Keys(byName))
	each := func(name, help string, sample func(c *census, name string)) {
		x.gauge(name, help)
		for _, name := range names {
			sample(byName[name], name)
		}
	}
	each("martlet_connection_up", "Whether an IKE SA of the connection stands that has a child SA.",
		func(c *census, name string) { x.truth(c.up, "connection", name) })
	each("martlet_connection_established_timestamp_seconds", "When the newest IKE SA of the connection was established, rekeying apart, as Unix time.",
		func(c *census, name string) {
			if !c.since.IsZero() {
				x.value(unixSeconds(c.since), "connection", name)
			}
		})
	each("martlet_connection_heard_timestamp_seconds", "When something authentic last came from a peer of the connection, by IKE or ESP, as Unix time.",
		func(c *census, name string) {
			if !c.heard.IsZero() {
				x.value(unixSeconds(c.heard), "connection", name)
			}
		})
	each("martlet_ike_sas", "IKE SAs by state.", func(c *census, name string) {
		for _, state := range saStates {
			x.count(uint64(c.states[state]), "connection", name, "state", state)
		}
	})
}

// trafficMetrics are what the child SAs have carried.
func trafficMetrics(x *exposition, sums map[bearer]load) {
	bearers := slices.Collect(maps.Keys(sums))
	sort.Slice(bearers, func(i, j int) bool {
		a, b := bearers[i], bearers[j]
		return cmp.Or(cmp.Compare(a.connection, b.connection), cmp.Compare(a.child, b.child)) < 0
	})
	each := func(sample func(l load) uint64) {
		for _, b := range bearers {
			x.count(sample(sums[b]), "connection", b.connection, "child", b.child)
		}
	}
	x.gauge("martlet_child_sas", "Child SAs, with those that were just replaced.")
	each(func(l load) uint64 { return uint64(l.sas) })
	x.counter("martlet_received_packets_total", "Packets that came out of the tunnel.")
	each(func(l load) uint64 { return l.InPackets })
	x.counter("martlet_received_bytes_total", "Octets of packets that came out of the tunnel.")
	each(func(l load) uint64 { return l.InOctets })
	x.counter("martlet_sent_packets_total", "Packets that went into the tunnel.")
	each(func(l load) uint64 { return l.OutPackets })
	x.counter("martlet_sent_bytes_total", "Octets of packets that went into the tunnel.")
	each(func(l load) uint64 { return l.OutOctets })
}

func (c *census) add(b ike.Brief) {
	c.states[b.State]++
	if b.State != "established" {
		return
	}
	c.up = c.up || b.Children > 0
	if b.Since.After(c.since) {
		c.since = b.Since
	}
	if b.Heard.After(c.heard) {
		c.heard = b.Heard
	}
}

// healthMetrics are what the probes tell.
func (n *Node) healthMetrics(ctx context.Context, x *exposition) {
	started, _ := n.startedUp()
	r := n.readyNow(ctx)
	x.gauge("martlet_started", "Whether a child SA was up once, or, of a node that only serves, whether it listens.")
	x.truth(started)
	x.gauge("martlet_ready", "Whether everything is up that is to be up.")
	x.truth(r.ready)
	x.gauge("martlet_connection_ready", "Whether a connection is up that is to be up, and its peer was heard lately.")
	for _, c := range r.connections[:min(len(r.connections), maxSeries)] {
		x.truth(c.ready, "connection", c.name)
	}
}

// eventMetrics are what happened since the start, by connection.
func (n *Node) eventMetrics(x *exposition) {
	counts := n.events.tally.snapshot()
	names := map[string]bool{}
	for _, name := range n.names() {
		names[name] = true // what did not happen yet is counted too, as 0
	}
	for k := range counts {
		names[k.connection] = true
	}
	sorted := slices.Sorted(maps.Keys(names))
	each := func(counted func(k tallied) bool, labels ...string) {
		sums := map[string]uint64{}
		for k, v := range counts {
			if counted(k) {
				sums[k.connection] += v
			}
		}
		for _, name := range sorted {
			x.count(sums[name], append([]string{"connection", name}, labels...)...)
		}
	}
	x.counter("martlet_handshakes_total", "IKE SAs that were established, without those that came of rekeying.")
	each(func(k tallied) bool { return k.kind == EventEstablished })
	x.counter("martlet_children_total", "Child SAs that were opened, without those that came of rekeying.")
	each(func(k tallied) bool { return k.kind == EventChildUp })
	x.counter("martlet_rekeys_total", "Fresh keys, by the kind of SA that got them.")
	each(func(k tallied) bool { return k.kind == EventRekeyed && !k.child }, "sa", "ike")
	each(func(k tallied) bool { return k.kind == EventRekeyed && k.child }, "sa", "child")
	x.counter("martlet_moves_total", "Changes of address of one of the sides that an IKE SA has outlived.")
	each(func(k tallied) bool { return k.kind == EventMoved })
	x.counter("martlet_retries_total", "Tries to bring a connection or child up that failed, and were followed by another.")
	each(func(k tallied) bool { return k.kind == EventRetry })
	x.counter("martlet_peer_timeouts_total", "IKE SAs that ended because the peer gave no sign of life any more.")
	each(func(k tallied) bool { return k.kind == EventDown && k.code == ike.CodePeerDead })

	x.counter("martlet_failures_total", "What went wrong, by the event that tells of it and the code of the error. Of one failure both down and retry may tell.")
	failures := map[tallied]uint64{}
	for k, v := range counts {
		if k.code != "" {
			k.child = false
			failures[k] += v
		}
	}
	kinds := slices.Collect(maps.Keys(failures))
	sort.Slice(kinds, func(i, j int) bool {
		a, b := kinds[i], kinds[j]
		return cmp.Or(cmp.Compare(a.connection, b.connection), cmp.Compare(a.kind, b.kind), cmp.Compare(a.code, b.code)) < 0
	})
	for _, k := range kinds {
		x.count(failures[k], "connection", k.connection, "event", string(k.kind), "code", string(k.code))
	}
}

// unixSeconds is a time as Prometheus has it.
func unixSeconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
