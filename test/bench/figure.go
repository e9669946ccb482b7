package main

import "cmp"

// The sides that are measured, by the names that the table and the JSON show.
const (
	sideMartlet        = "Martlet"
	sideMartletSmall   = "Martlet, small"
	sideWireguard      = "wireguard-go"
	sideWireguardSocks = "wireguard-go + go-socks5"
	sideLibipsec       = "strongSwan kernel-libipsec"
	sideToLibipsec     = "Martlet, strongSwan's gateway"
	sideCharonCmd      = "strongSwan charon-cmd"
	sideAEAD           = "Go's cipher.AEAD"
)

// figure is one number that Martlet has to reach.
type figure struct {
	id    string
	name  string
	unit  string
	trial string // where it is measured
	key   string // which of the trial's values it is
	own   string // which of our sides it is; "" is sideMartlet
	peer  string // with whom it is compared; "" is nobody

	// limit says that the bar stands in the figure's own unit; a peer is shown beside it only.
	limit  bool
	plain  bool    // it has no bar: it explains another one
	lower  bool    // less is better
	bar    float64 // times the peer, or the limit
	barKey string  // the trial's value that is the limit, where it depends on the run
	aim    float64 // 0 is none
	note   string
}

// figures are all of them, in the order of the table.
var figures = []figure{
	{id: "tcp", name: "TCP, 1 stream", unit: "Gbit/s", trial: "tcp", key: "rate", peer: sideWireguard, bar: 1.5, aim: 2},
	{id: "tcp4", name: "TCP, 4 streams", unit: "Gbit/s", trial: "tcp4", key: "rate", peer: sideWireguard, bar: 1.5, aim: 2},
	{id: "tcp-reverse", name: "TCP, 1 stream, gateway sends", unit: "Gbit/s", trial: "tcp-reverse", key: "rate", peer: sideWireguard, bar: 1.5, aim: 2},
	{id: "tcp-libipsec", name: "TCP, 1 stream", unit: "Gbit/s", trial: "tcp", key: "rate", peer: sideLibipsec, bar: 8, aim: 12},
	{id: "tcp4-libipsec", name: "TCP, 4 streams", unit: "Gbit/s", trial: "tcp4", key: "rate", peer: sideLibipsec, bar: 8, aim: 12},
	{id: "tcp-reverse-libipsec", name: "TCP, 1 stream, gateway sends", unit: "Gbit/s", trial: "tcp-reverse", key: "rate", peer: sideLibipsec, bar: 8, aim: 12},
	{id: "udp1200", name: "UDP, 1200 B, delivered", unit: "kpacket/s", trial: "udp1200", key: "rate", peer: sideWireguard, bar: 1.5, aim: 3},
	{id: "udp64", name: "UDP, 64 B, delivered", unit: "kpacket/s", trial: "udp64", key: "rate", peer: sideWireguard, bar: 1.5, aim: 3},
	{id: "udp1200-libipsec", name: "UDP, 1200 B, delivered", unit: "kpacket/s", trial: "udp1200", key: "rate", peer: sideLibipsec, bar: 1.5, aim: 3},
	{id: "socks", name: "SOCKS5, 1 download", unit: "Gbit/s", trial: "socks", key: "rate", peer: sideWireguardSocks, bar: 1, aim: 2, note: socksNote},
	{id: "socks4", name: "SOCKS5, 4 downloads", unit: "Gbit/s", trial: "socks4", key: "rate", peer: sideWireguardSocks, bar: 1, aim: 2, note: socksNote},
	{id: "socks-up", name: "SOCKS5, 1 upload", unit: "Gbit/s", trial: "socks-up", key: "rate", peer: sideWireguardSocks, bar: 1, aim: 2, note: socksNote},
	{id: "socks4-up", name: "SOCKS5, 4 uploads", unit: "Gbit/s", trial: "socks4-up", key: "rate", peer: sideWireguardSocks, bar: 1, aim: 2, note: socksNote},
	{id: "seal", name: "seal 1400 B, AES-256-GCM", unit: "ns", trial: "esp", key: "seal", peer: sideAEAD, lower: true, bar: 1.25, aim: 1.1},
	{id: "open", name: "open 1400 B, AES-256-GCM", unit: "ns", trial: "esp", key: "open", peer: sideAEAD, lower: true, bar: 1.25, aim: 1.1},
	{
		id: "allocations", name: "allocations per packet", unit: "", trial: "esp", key: "allocations", limit: true, lower: true,
		note: "the most of seal, open and the benchmarks of whole batches",
	},
	{
		id: "ping", name: "round trip added by the tunnel", unit: "µs", trial: "ping", key: "added", peer: sideWireguard, lower: true, bar: 1, aim: 0.7,
		note: "median through the tunnel less the median beside it",
	},
	{
		id: "handshakes", name: "IKE SAs set up (PSK, X25519)", unit: "/s", trial: "ike", key: "handshakes", limit: true, bar: 800, aim: 2000,
		note: "both ends computed on one processor, without sockets",
	},
	{
		id: "sa-memory", name: "memory per idle IKE SA with child", unit: "KiB", trial: "ike", key: "memory", limit: true, lower: true, bar: 14, aim: 8,
		note: "of the heap, the mean of both ends",
	},
	{
		id: "setup", name: "start of the client to first packet back", unit: "ms", trial: "setup", key: "time", peer: sideCharonCmd, lower: true, bar: 1, aim: 0.3,
		note: "the same gateway, martlet serve, and RSA-2048 certificates for both; Martlet with its default proposals, which have ML-KEM",
	},
	{id: "roam", name: "address changes, download, p95", unit: "ms", trial: "roam", key: "download p95", limit: true, lower: true, bar: 1000, note: roamNote},
	{id: "roam-p50", name: "address changes, download, p50", unit: "ms", trial: "roam", key: "download p50", plain: true, lower: true, note: roamNote},
	{id: "roam-tunnel", name: "address changes, echoes, p95", unit: "ms", trial: "roam", key: "tunnel p95", plain: true, lower: true, note: roamTunnelNote},
	{id: "roam-tunnel-p50", name: "address changes, echoes, p50", unit: "ms", trial: "roam", key: "tunnel p50", plain: true, lower: true, note: roamTunnelNote},
	{id: "roam-libipsec", name: "to strongSwan: download, p95", unit: "ms", trial: "roam", key: "download p95", own: sideToLibipsec, limit: true, lower: true, bar: 1000, note: roamNote},
	{id: "roam-libipsec-p50", name: "to strongSwan: download, p50", unit: "ms", trial: "roam", key: "download p50", own: sideToLibipsec, plain: true, lower: true, note: roamNote},
	{id: "roam-libipsec-tunnel", name: "to strongSwan: echoes, p95", unit: "ms", trial: "roam", key: "tunnel p95", own: sideToLibipsec, plain: true, lower: true, note: roamTunnelNote},
	{id: "roam-libipsec-tunnel-p50", name: "to strongSwan: echoes, p50", unit: "ms", trial: "roam", key: "tunnel p50", own: sideToLibipsec, plain: true, lower: true, note: roamTunnelNote},
	{id: "rss-idle", name: "resident memory of the client, idle", unit: "MiB", trial: "tcp", key: "idle", peer: sideWireguard, limit: true, lower: true, bar: 30, aim: 15},
	{
		id: "rss-load", name: "resident memory of the client, TCP load", unit: "MiB", trial: "tcp", key: "load", peer: sideWireguard, limit: true, lower: true, bar: 80, aim: 40,
		note: "the most during one stream of TCP",
	},
	{id: "socks-idle", name: "resident memory, SOCKS5, idle", unit: "MiB", trial: "socks-memory", key: "idle", peer: sideWireguardSocks, limit: true, lower: true, bar: 30, aim: 15},
	{id: "socks-idle-small", name: "resident memory, SOCKS5, idle, small", unit: "MiB", trial: "socks-memory", key: "idle", own: sideMartletSmall, limit: true, lower: true, bar: 30, aim: 15, note: smallNote},
	{
		id: "socks-peak", name: "peak memory, 200 SOCKS5 downloads", unit: "MiB", trial: "socks-memory", key: "peak", peer: sideWireguardSocks, lower: true, bar: 1,
		note: "the most resident memory so far, as the kernel tells it, after 200 downloads at once, each compared with what was sent",
	},
	{id: "socks-peak-small", name: "peak memory, 200 SOCKS5 downloads, small", unit: "MiB", trial: "socks-memory", key: "peak", own: sideMartletSmall, limit: true, lower: true, bar: 80, note: smallNote},
	{
		id: "overload", name: "memory growth under UDP overload", unit: "×", trial: "overload", key: "growth", peer: sideLibipsec, limit: true, lower: true, barKey: "allowed",
		note: "at 10 s to that at 2 s, of the end that grew more; a tenth or 4 MiB more is flat",
	},
	{id: "binary", name: "static client binary, stripped", unit: "MB", trial: "binary", key: "size", limit: true, lower: true, bar: 18, aim: 14},
}

const socksNote = "no privilege: martlet up --userspace --proxy against what wireproxy is made of, a TUN device behind each gateway"

const (
	roamNote       = "the longest time without data after each of 50 changes: to a new interface, to another address on the same, behind a NAT and back"
	roamTunnelNote = "the same for datagrams every 10 ms and their echoes: TCP's own retransmission timer is not in it"
)

const smallNote = "node.profile is \"small\", for a container beside another program"

// ours is which of our sides it is.
func (f *figure) ours() string { return cmp.Or(f.own, sideMartlet) }

// sides are those that have to be measured for a figure.
func (f *figure) sides() []string {
	if f.peer == "" {
		return []string{f.ours()}
	}
	return []string{f.ours(), f.peer}
}
