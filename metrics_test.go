package martlet

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"martlet/config"
	"martlet/crypto/suite"
	"martlet/esp"
	"martlet/ike"
	"martlet/ike/aaa"
	"martlet/tun/netstack"
	"martlet/tun/proxy"
)

// series is the samples of a scrape, by name and labels as they are written.
type series map[string]float64

// parse reads metrics as Prometheus does.
func parse(t *testing.T, text []byte) (samples series, kinds map[string]dto.MetricType) {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	samples, kinds = series{}, map[string]dto.MetricType{}
	for name, family := range families {
		kinds[name] = family.GetType()
		if family.GetHelp() == "" || family.GetType() == dto.MetricType_UNTYPED {
			t.Errorf("%s says not what it is", name)
		}
		if strings.HasSuffix(name, "_total") != (family.GetType() == dto.MetricType_COUNTER) {
			t.Errorf("%s is a %v", name, family.GetType())
		}
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, " "+l.GetName()+"="+l.GetValue())
			}
			slices.Sort(labels)
			key := name + strings.Join(labels, "")
			if _, twice := samples[key]; twice {
				t.Errorf("%s is there twice", key)
			}
			samples[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return samples, kinds
}

// scrape reads the metrics of a Node.
func scrape(t *testing.T, n *Node) series {
	t.Helper()
	status, body := ask(t, n, "/metrics")
	if status != yes {
		t.Fatalf("/metrics: %d %s", status, body)
	}
	samples, _ := parse(t, []byte(body))
	return samples
}

// wantSamples checks some samples.
func wantSamples(t *testing.T, got, want series) {
	t.Helper()
	for key, v := range want {
		if have, ok := got[key]; !ok || have != v {
			t.Errorf("%s is %v (%v), want %v", key, have, ok, v)
		}
	}
}

// grown checks that no counter went down or away between two scrapes.
func grown(t *testing.T, before, after series) {
	t.Helper()
	for key, v := range before {
		if name, _, _ := strings.Cut(key, " "); strings.HasSuffix(name, "_total") {
			if now, ok := after[key]; !ok || now < v {
				t.Errorf("%s went from %v to %v (%v)", key, v, now, ok)
			}
		}
	}
}

const ofChild = " child=net connection=office"

func TestMetricsOverRekeyAndReconnection(t *testing.T) {
	ctx := testContext(t)
	gateway := startNode(t, true, gatewayText)
	client := startNode(t, false, clientOf(gateway, netip.Addr.Is4))
	begin := scrape(t, client)
	wantSamples(t, begin, series{
		"martlet_ready": 0, "martlet_started": 0, "martlet_connection_up connection=office": 0,
		"martlet_ike_sas connection=office state=established": 0, "martlet_handshakes_total connection=office": 0,
		"martlet_rekeys_total connection=office sa=child": 0, "martlet_proxy_accepted_total": 0,
		"martlet_build_info go_version=" + runtime.Version() + " version=" + Version: 1,
	})
	if begin["go_goroutines"] < 2 || begin["martlet_uptime_seconds"] < 0 || begin["martlet_start_time_seconds"] < 1e9 {
		t.Errorf("of the process it says %v", begin)
	}
	if resident, ok := begin["process_resident_memory_bytes"]; ok && resident < 1<<20 {
		t.Errorf("the whole program takes %v octets", resident)
	}
	if err := client.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}

	ping := func() { t.Helper(); countedPing(t, client, gateway) }
	ping()
	up := scrape(t, client)
	grown(t, begin, up)
	wantSamples(t, up, series{
		"martlet_ready": 1, "martlet_started": 1, "martlet_connection_up connection=office": 1, "martlet_connection_ready connection=office": 1,
		"martlet_ike_sas connection=office state=established": 1, "martlet_child_sas" + ofChild: 1,
		"martlet_handshakes_total connection=office": 1, "martlet_children_total connection=office": 1,
		"martlet_sent_packets_total" + ofChild: 1, "martlet_received_packets_total" + ofChild: 1,
	})
	if up["martlet_connection_heard_timestamp_seconds connection=office"] < up["martlet_connection_established_timestamp_seconds connection=office"] ||
		up["martlet_connection_established_timestamp_seconds connection=office"] < up["martlet_start_time_seconds"] {
		t.Errorf("the times are out of order: %v", up)
	}
	size := up["martlet_sent_bytes_total"+ofChild]
	if size < 20 {
		t.Errorf("a ping has %v octets", size)
	}

	if err := client.Rekey(ctx, "office", "net"); err != nil {
		t.Fatal(err)
	}
	if err := client.Rekey(ctx, "office", ""); err != nil {
		t.Fatal(err)
	}
	ping()
	rekeyed := scrape(t, client)
	grown(t, up, rekeyed)
	wantSamples(t, rekeyed, series{
		"martlet_sent_packets_total" + ofChild: 2, "martlet_received_packets_total" + ofChild: 2,
		"martlet_sent_bytes_total" + ofChild: 2 * size, "martlet_handshakes_total connection=office": 1,
		"martlet_rekeys_total connection=office sa=child": 1, "martlet_rekeys_total connection=office sa=ike": 1,
	})

	client.Disconnect("office")
	waitFor(t, client, func() bool { return len(client.Status().SAs) == 0 })
	away := scrape(t, client)
	grown(t, rekeyed, away)
	wantSamples(t, away, series{"martlet_child_sas" + ofChild: 0, "martlet_connection_up connection=office": 0, "martlet_sent_packets_total" + ofChild: 2})
	if err := client.Connect(ctx, "office"); err != nil {
		t.Fatal(err)
	}
	ping()
	again := scrape(t, client)
	grown(t, away, again)
	wantSamples(t, again, series{
		"martlet_sent_packets_total" + ofChild: 3, "martlet_sent_bytes_total" + ofChild: 3 * size,
		"martlet_received_packets_total" + ofChild: 3, "martlet_handshakes_total connection=office": 2,
	})
	// The gateway adds up all its clients.
	wantSamples(t, scrape(t, gateway), series{
		"martlet_received_packets_total child=net connection=clients": 3, "martlet_handshakes_total connection=clients": 2, "martlet_ready": 1,
	})
}

// countedPing sends an echo request through the tunnel. A packet is counted when the socket or the
// device has taken it, and what follows may be faster than that.
func countedPing(t *testing.T, client, gateway *Node) {
	t.Helper()
	ctx := testContext(t)
	atClient := func() load { return client.traffic.sums(client.plane)[bearer{"office", "net"}] }
	atGateway := func() load { return gateway.traffic.sums(gateway.plane)[bearer{"clients", "net"}] }
	c, g := atClient(), atGateway()
	if _, err := client.Ping(ctx, netip.MustParseAddr("10.77.0.1")); err != nil {
		t.Fatal(err)
	}
	for _, counted := range []func() bool{
		func() bool { return atClient().OutPackets > c.OutPackets },
		func() bool { return atClient().InPackets > c.InPackets },
		func() bool { return atGateway().OutPackets > g.OutPackets },
		func() bool { return atGateway().InPackets > g.InPackets },
	} {
		for !counted() {
			if ctx.Err() != nil {
				t.Fatal("a packet was not counted")
			}
			runtime.Gosched()
		}
	}
}

// TestMetricsWhileChildrenComeAndGo: however scrapes and rekeying meet, no sum goes down.
func TestMetricsWhileChildrenComeAndGo(t *testing.T) {
	ctx := testContext(t)
	gateway := startNode(t, true, gatewayText)
	client := startNode(t, false, clientOf(gateway, netip.Addr.Is4))
	if err := client.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}
	scraping, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		last := map[bearer]load{}
		for scraping.Err() == nil {
			now := client.traffic.sums(client.plane)
			for b, l := range last {
				if now[b].OutPackets < l.OutPackets || now[b].InOctets < l.InOctets {
					t.Errorf("%v went from %+v to %+v", b, l, now[b])
				}
			}
			last = now
		}
	}()
	pings := uint64(0)
	for range 10 {
		// Until the one before is gone there is nothing to rekey.
		for once := true; once || len(client.Status().SAs[0].Children) > 1; once = false {
			countedPing(t, client, gateway)
			pings++
		}
		if err := client.Rekey(ctx, "office", "net"); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	<-done
	if got := client.traffic.sums(client.plane)[bearer{"office", "net"}]; got.OutPackets != pings {
		t.Errorf("%d of %d pings are counted", got.OutPackets, pings)
	}
}

func TestMetricsOfFailures(t *testing.T) {
	gateway := startNode(t, true, gatewayText)
	client := startNode(t, false, strings.Replace(clientOf(gateway, netip.Addr.Is4), testPSK, "another key than the gateway's", 1))
	if err := client.Connect(testContext(t), ""); err == nil {
		t.Fatal("connected with a wrong key")
	}
	wantSamples(t, scrape(t, client), series{
		"martlet_failures_total code=auth-refused connection=office event=down": 1, "martlet_handshakes_total connection=office": 0,
	})

	// What events tell, each of its kind.
	for _, ev := range []Event{
		{Kind: EventDown, Connection: "office", Err: &Error{Code: ike.CodePeerDead}},
		{Kind: EventRetry, Connection: "office", Err: &Error{Code: ike.CodeUnreachable}},
		{Kind: EventRetry, Connection: "office", Text: "no *Error"},
		{Kind: EventRekeyFailed, Connection: "office", Child: "net", Err: &Error{Code: ike.CodeNoChildProposal}},
		{Kind: EventRekeyFailed, Connection: "office", Err: &Error{Code: ike.CodeNoChildProposal}},
		{Kind: EventMoved, Connection: "office"},
		{Kind: EventStage, Connection: "office", Stage: "resolve"},
	} {
		client.events.send(ev)
	}
	wantSamples(t, scrape(t, client), series{
		"martlet_peer_timeouts_total connection=office": 1, "martlet_retries_total connection=office": 2, "martlet_moves_total connection=office": 1,
		"martlet_failures_total code=peer-dead connection=office event=down":                 1,
		"martlet_failures_total code=unreachable connection=office event=retry":              1,
		"martlet_failures_total code=other connection=office event=retry":                    1,
		"martlet_failures_total code=no-child-proposal connection=office event=rekey-failed": 2,
	})
}

// TestMetricsNameFewThings: whatever names reloads bring, the number of series is bounded, and
// nothing is lost.
func TestMetricsNameFewThings(t *testing.T) {
	var counts tally
	var sums traffic
	const many = 3 * maxSeries
	for i := range many {
		counts.add(&Event{Kind: EventEstablished, Connection: fmt.Sprint(i)})
		c := &ike.Child{ChildInfo: ike.ChildInfo{ID: ike.ChildID(i), Connection: fmt.Sprint(i), Name: "net"}}
		sums.begin(c)
		sums.gone[sums.live[c.ID]] = sums.gone[sums.live[c.ID]].Add(aaa.Usage{InPackets: 1})
	}
	total := uint64(0)
	for _, v := range counts.snapshot() {
		total += v
	}
	if len(counts.counts) > maxSeries+1 || total != many {
		t.Errorf("%d series count %d events, want %d at most and %d", len(counts.counts), total, maxSeries+1, many)
	}
	total = 0
	for _, usage := range sums.gone {
		total += usage.InPackets
	}
	if len(sums.gone) > maxSeries+1 || total != many {
		t.Errorf("%d series count %d packets, want %d at most and %d", len(sums.gone), total, maxSeries+1, many)
	}
}

// TestMetricsAreWhatTheyCount: each number of the parts that count for themselves is there once.
func TestMetricsAreWhatTheyCount(t *testing.T) {
	counts := proxy.Counts{Accepted: 1, Open: 2, Sent: 3, Received: 4, DatagramsSent: 5, DatagramsReceived: 6, DatagramsDropped: 7, Queries: 8}
	counts.Failures[proxy.Refused] = 9
	x := &exposition{}
	proxyMetrics(x, counts)
	forwardMetrics(x, netstack.ForwardStatus{
		TCP:     netstack.ForwardCounters{Open: 11, Waiting: 12, Opened: 13, Failed: 14, Full: 15, Idle: 16, Dropped: 17, FromClients: 18, ToClients: 19},
		UDP:     netstack.ForwardCounters{Open: 21},
		Refused: map[netstack.Reason]uint64{netstack.Loopback: 31},
	})
	got, _ := parse(t, x.text)
	wantSamples(t, got, series{
		"martlet_proxy_accepted_total": 1, "martlet_proxy_open": 2, "martlet_proxy_sent_bytes_total": 3, "martlet_proxy_received_bytes_total": 4,
		"martlet_proxy_sent_datagrams_total": 5, "martlet_proxy_received_datagrams_total": 6, "martlet_proxy_dropped_datagrams_total": 7,
		"martlet_proxy_dns_queries_total": 8, "martlet_proxy_failures_total reason=refused": 9, "martlet_proxy_failures_total reason=other": 0,
		"martlet_forward_open transport=tcp": 11, "martlet_forward_waiting transport=tcp": 12, "martlet_forward_opened_total transport=tcp": 13,
		"martlet_forward_failed_total transport=tcp": 14, "martlet_forward_full_total transport=tcp": 15, "martlet_forward_idle_total transport=tcp": 16,
		"martlet_forward_dropped_total transport=tcp": 17, "martlet_forward_from_peers_bytes_total transport=tcp": 18,
		"martlet_forward_to_peers_bytes_total transport=tcp": 19, "martlet_forward_open transport=udp": 21, "martlet_forward_open transport=echo": 0,
		"martlet_forward_refused_total reason=" + netstack.Loopback.String(): 31,
	})
}

func TestExpositionEscapesLabels(t *testing.T) {
	hostile := "a\"} 1\nmartlet_ready 1\\"
	x := &exposition{}
	x.gauge("martlet_ready", "None.")
	x.counter("martlet_x_total", "Some.")
	x.value(0.5, "connection", hostile, "child", "net")
	got, kinds := parse(t, x.text)
	wantSamples(t, got, series{"martlet_x_total child=net connection=" + hostile: 0.5})
	if len(got) != 1 || len(kinds) != 1 {
		t.Errorf("%v in\n%s", got, x.text)
	}
}

// FuzzExposition: whatever a label is, Prometheus reads it as it was.
func FuzzExposition(f *testing.F) {
	f.Add("office")
	f.Add("a\"} 1\nmartlet_ready 1\\")
	f.Fuzz(func(t *testing.T, label string) {
		if !utf8.ValidString(label) {
			t.Skip("no text")
		}
		x := &exposition{}
		x.counter("martlet_x_total", "Some.")
		x.count(7, "connection", label)
		parser := expfmt.NewTextParser(model.LegacyValidation)
		families, err := parser.TextToMetricFamilies(bytes.NewReader(x.text))
		if err != nil {
			t.Fatalf("%v in %q", err, x.text)
		}
		metrics := families["martlet_x_total"].GetMetric()
		if len(families) != 1 || len(metrics) != 1 || metrics[0].GetCounter().GetValue() != 7 || metrics[0].GetLabel()[0].GetValue() != label {
			t.Errorf("%q became %v", label, families)
		}
	})
}

// TestMonitorKeepsSecrets: no key and no password, and in the metrics no peer.
func TestMonitorKeepsSecrets(t *testing.T) {
	ctx := testContext(t)
	dir := t.TempDir()
	gateway := startNode(t, true, strings.Replace(gatewayText, "[node]\n", fmt.Sprintf("[node]\nkey_log = %q\n", dir), 1))
	client := startNode(t, false, clientOf(gateway, netip.Addr.Is4))
	if err := client.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Ping(ctx, netip.MustParseAddr("10.77.0.1")); err != nil {
		t.Fatal(err)
	}
	secrets := []string{testPSK}
	for _, name := range []string{"esp_sa", "ikev2_decryption_table"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		keys := regexp.MustCompile(`[0-9a-fA-F]{32,}`).FindAllString(string(text), -1)
		if len(keys) == 0 {
			t.Errorf("no key in %s", name)
		}
		secrets = append(secrets, keys...)
	}
	for _, n := range []*Node{gateway, client} {
		for _, path := range []string{"/metrics", "/status", "/readyz", "/startupz", "/livez"} {
			_, body := ask(t, n, path)
			for _, secret := range secrets {
				if strings.Contains(strings.ToLower(body), strings.ToLower(secret)) {
					t.Errorf("%s shows a secret", path)
				}
			}
			for _, who := range []string{"alice@test", "gateway.test", "127.0.0.1", "10.77.0."} {
				if path == "/metrics" && strings.Contains(body, who) {
					t.Errorf("%s names %s", path, who)
				}
			}
		}
	}
	if _, body := ask(t, gateway, "/status"); !strings.Contains(body, "alice@test") {
		t.Error("the status does not tell who is there")
	}
}

// BenchmarkScrape adds up what many child SAs have carried, which is what grows with the number of
// peers.
func BenchmarkScrape(b *testing.B) {
	cfg, err := config.Parse("test.toml", []byte(strings.Replace(gatewayText, `, "::1"]`, "]", 1)), b.TempDir(), os.LookupEnv)
	if err != nil {
		b.Fatal(err)
	}
	n := &Node{Config: cfg, Serve: true}
	if err := n.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer n.Close()
	for i := range 10_000 {
		c := childOf(i, n.Addresses()[0])
		n.traffic.begin(&ike.Child{ChildInfo: ike.ChildInfo{ID: ike.ChildID(c.ID), Connection: "clients", Name: "net"}})
		if err := n.plane.Install(c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := n.metrics(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// childOf is the child SA of a client.
func childOf(i int, at netip.AddrPort) esp.Child {
	keys := func(spi int) esp.Keys {
		return esp.Keys{SPI: uint32(spi), Encr: suite.Transform{Type: suite.TypeEncr, ID: suite.EncrAESGCM16, KeyLen: 256}, EncrKey: bytes.Repeat([]byte{byte(i)}, 36)}
	}
	address := netip.AddrFrom4([4]byte{10, 78, byte(i >> 8), byte(i)})
	return esp.Child{
		ID: uint64(i + 1), In: keys(1000 + i), Out: keys(1000 + i),
		Local:  []esp.Selector{{From: netip.IPv4Unspecified(), To: netip.MustParseAddr("255.255.255.255"), EndPort: 65535}},
		Remote: []esp.Selector{{From: address, To: address, EndPort: 65535}},
		Path:   esp.Path{Local: at, Remote: netip.AddrPortFrom(at.Addr(), 4500)},
	}
}
