package martlet

import (
	"bytes"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"

	"martlet/tun/netstack"
	"martlet/tun/proxy"
)

// proxyMetrics are what the ways into the tunnel count, all together.
func proxyMetrics(x *exposition, c proxy.Counts) {
	x.counter("martlet_proxy_accepted_total", "Connections, associations and flows that proxies and forwards let in.")
	x.count(c.Accepted)
	x.gauge("martlet_proxy_open", "Those of them that are open now.")
	x.count(c.Open)
	x.counter("martlet_proxy_sent_bytes_total", "Octets that went into the tunnel.")
	x.count(c.Sent)
	x.counter("martlet_proxy_received_bytes_total", "Octets that came out of the tunnel.")
	x.count(c.Received)
	x.counter("martlet_proxy_sent_datagrams_total", "Datagrams that went into the tunnel.")
	x.count(c.DatagramsSent)
	x.counter("martlet_proxy_received_datagrams_total", "Datagrams that came out of the tunnel.")
	x.count(c.DatagramsReceived)
	x.counter("martlet_proxy_dropped_datagrams_total", "Datagrams of strangers, malformed, too long, or too many.")
	x.count(c.DatagramsDropped)
	x.counter("martlet_proxy_dns_queries_total", "Queries that the relay for DNS took.")
	x.count(c.Queries)
	x.counter("martlet_proxy_failures_total", "Clients that did not get what they asked for, by why.")
	for kind, count := range c.Failures {
		x.count(count, "reason", proxy.Failure(kind).String())
	}
}

// forwardMetrics are what a gateway without privilege forwards to the network of this process.
func forwardMetrics(x *exposition, s netstack.ForwardStatus) {
	transports := []struct {
		name string
		netstack.ForwardCounters
	}{{"tcp", s.TCP}, {"udp", s.UDP}, {"echo", s.Echo}}
	family := func(sample func(c *netstack.ForwardCounters) uint64) {
		for i := range transports {
			x.count(sample(&transports[i].ForwardCounters), "transport", transports[i].name)
		}
	}
	x.gauge("martlet_forward_open", "Connections, flows and echo requests of peers that are open now.")
	family(func(c *netstack.ForwardCounters) uint64 { return uint64(c.Open) })
	x.gauge("martlet_forward_waiting", "Connections of peers that have not begun, or have ended but for the last acknowledgment.")
	family(func(c *netstack.ForwardCounters) uint64 { return uint64(c.Waiting) })
	x.counter("martlet_forward_opened_total", "Connections, flows and echo requests of peers that were forwarded.")
	family(func(c *netstack.ForwardCounters) uint64 { return c.Opened })
	x.counter("martlet_forward_failed_total", "What this host could not reach, or was not answered.")
	family(func(c *netstack.ForwardCounters) uint64 { return c.Failed })
	x.counter("martlet_forward_full_total", "What a bound turned away or ended early.")
	family(func(c *netstack.ForwardCounters) uint64 { return c.Full })
	x.counter("martlet_forward_idle_total", "What ended because nothing came for long.")
	family(func(c *netstack.ForwardCounters) uint64 { return c.Idle })
	x.counter("martlet_forward_dropped_total", "Datagrams that came faster than they could go on.")
	family(func(c *netstack.ForwardCounters) uint64 { return c.Dropped })
	x.counter("martlet_forward_from_peers_bytes_total", "Octets of payload from peers.")
	family(func(c *netstack.ForwardCounters) uint64 { return c.FromClients })
	x.counter("martlet_forward_to_peers_bytes_total", "Octets of payload to peers.")
	family(func(c *netstack.ForwardCounters) uint64 { return c.ToClients })
	x.counter("martlet_forward_refused_total", "What was turned away because of where it wanted to go, by why.")
	for _, reason := range slices.Sorted(maps.Keys(s.Refused)) {
		x.count(s.Refused[reason], "reason", reason.String())
	}
}

// processMetrics are those of the process, by the names that all Go programs use.
func processMetrics(x *exposition) {
	x.gauge("go_info", "The version of Go; the value is always 1.")
	x.count(1, "version", runtime.Version())
	// Package runtime/metrics makes tables before main, at each start.
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	x.gauge("go_goroutines", "Goroutines.")
	x.count(uint64(runtime.NumGoroutine()))
	x.counter("go_gc_cycles_total", "Collections of garbage.")
	x.count(uint64(m.NumGC))
	x.gauge("go_memstats_alloc_bytes", "Octets of objects on the heap.")
	x.count(m.HeapAlloc)
	x.counter("go_memstats_alloc_bytes_total", "Octets of all objects that were ever on the heap.")
	x.count(m.TotalAlloc)
	x.gauge("go_memstats_sys_bytes", "Octets of memory from the system, those that were given back among them.")
	x.count(m.Sys)
	x.gauge("go_memstats_heap_released_bytes", "Octets of the heap that were given back to the system.")
	x.count(m.HeapReleased)
	if resident, ok := residentMemory(); ok {
		x.gauge("process_resident_memory_bytes", "Octets of the process that are in memory.")
		x.count(resident)
	}
}

// residentMemory is what Linux tells of this process (proc_pid_statm(5)), in octets.
func residentMemory() (octets uint64, ok bool) {
	if runtime.GOOS != "linux" {
		return 0, false
	}
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseUint(string(fields[1]), 10, 64)
	return pages * uint64(os.Getpagesize()), err == nil
}
