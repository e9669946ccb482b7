package interop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Addresses outside: the pod has routes to everything by the gateway, which would forward to the inside
// whatever went beside the tunnel.
const (
	podAddr, outerAddr   = "10.99.1.1", "10.99.1.2"
	podAddr6, outerAddr6 = "fd99:1::1", "fd99:1::2"
	outerName            = "vpn.martlet.test"
	socks                = "127.0.0.1:1080" // kubernetes.yaml has it
	parallel             = 200              // downloads at once
	residentCeiling      = 80 << 10         // KiB with these; the README names it
)

// onlyIKE is what may be seen on the pod's link: UDP with the gateway's outer address, questions for its name, and what
// a link needs (ARP, neighbour and listener discovery; and the gateway's words that a port is closed).
const onlyIKE = "(host " + outerAddr + " and udp and (port 500 or port 4500 or port 53)) or (icmp and src host " + outerAddr + ") or " +
	"arp or (icmp6 and ip6[40] >= 133 and ip6[40] <= 137) or (ip6[6] == 0 and ip6[40] == 58)"

// sidecar is a pod with Martlet in it as kubernetes.yaml has it, strongSwan as its gateway, and a
// host behind that.
type sidecar struct {
	pod, gateway, host *namespace
	swan               *swan
	intranet           *intranet
	outer              *nameServer // which the pod's resolv.conf names
	martlet            *container
	probes             map[string][]string // commands, by the state that they ask for
	sshKey             string
}

// manifest reads what kubernetes.yaml gives to the sidecar.
func manifest(t testing.TB) (environment map[string]string, args []string, probes map[string][]string) {
	t.Helper()
	text, err := os.ReadFile("../../cmd/martlet/dist/kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	type probe struct{ Exec struct{ Command []string } }
	documents := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var d struct {
			Kind string
			Data map[string]string
			Spec struct {
				InitContainers []struct {
					Args           []string
					StartupProbe   probe `yaml:"startupProbe"`
					LivenessProbe  probe `yaml:"livenessProbe"`
					ReadinessProbe probe `yaml:"readinessProbe"`
				} `yaml:"initContainers"`
			}
		}
		err := documents.Decode(&d)
		if errors.Is(err, io.EOF) {
			return environment, args, probes
		}
		if err != nil {
			t.Fatal(err)
		}
		switch d.Kind {
		case "ConfigMap":
			environment = d.Data
		case "Pod":
			c := d.Spec.InitContainers[0]
			args = c.Args
			probes = map[string][]string{
				"startup": c.StartupProbe.Exec.Command, "live": c.LivenessProbe.Exec.Command, "ready": c.ReadinessProbe.Exec.Command,
			}
		}
	}
}

// newSidecar makes the networks and the hosts, and starts Martlet. There is no gateway yet.
func newSidecar(t *testing.T) *sidecar {
	t.Helper()
	s := &sidecar{pod: newNamespace(t, "pod"), gateway: newNamespace(t, "gw"), host: newNamespace(t, "in")}
	join(s.pod, "eth0 "+podAddr+"/24 "+podAddr6+"/64", s.gateway, "eth0 "+outerAddr+"/24 "+outerAddr6+"/64")
	join(s.gateway, "eth1 "+inB4+"/24 "+inB6+"/64", s.host, "eth0 "+insideAddr4+"/24 "+insideAddr6+"/64")
	s.gateway.forward()
	for _, via := range []struct {
		ns      *namespace
		gateway string
	}{{s.pod, outerAddr}, {s.pod, outerAddr6}, {s.host, inB4}, {s.host, inB6}} {
		via.ns.ip("route add default via " + via.gateway)
	}
	s.pod.sysctl("net.ipv4.ip_unprivileged_port_start", "0") // as container runtimes set it
	// BBR, where it is the system's default, takes the rate at which a loaded machine came to a connection for that of
	// the path, and goes on with two segments in half a second for a minute.
	s.host.sysctl("net.ipv4.tcp_congestion_control", "reno")
	s.intranet = newIntranet(s.host, parallel)
	s.outer = &nameServer{zone: map[string][]netip.Addr{outerName: {netip.MustParseAddr(outerAddr)}}}
	s.outer.serve(s.gateway, outerAddr)
	s.pod.serveHTTP("127.0.0.1:9000", s.intranet.pages()) // the application
	s.pod.echo("127.0.0.1:9007")
	s.sshKey = sshd(s.host, t)

	environment, args, probes := manifest(t)
	s.probes = probes
	maps.Copy(environment, map[string]string{
		"MARTLET_CONNECTION_OFFICE_REMOTE":     outerName,
		"MARTLET_CONNECTION_OFFICE_LOCAL_USER": user,
		"MARTLET_CONNECTION_OFFICE_PEER_ID":    swanID,
		"MARTLET_CONNECTION_OFFICE_PEER_CA":    "/run/secrets/office/ca.pem",
		"MARTLET_CONNECTION_OFFICE_LIVENESS":   "2s",
		"MARTLET_CONNECTION_OFFICE_TCP":        "never", // so that UDP is all that may be seen
		"MARTLET_NODE_DRAIN":                   patience.String(),
	})
	var env []string
	for name, value := range environment {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	resolvers := s.pod.write("resolv.conf", "nameserver "+outerAddr+"\n")
	if err := os.Chmod(resolvers, 0o644); err != nil { //nolint:gosec // the user nobody reads it
		t.Fatal(err)
	}
	volumes := map[string]string{
		"run/secrets/office": secretVolume(t, map[string]string{"secret": password, "ca.pem": readFile(t, shared.pki.ca())}),
		"etc/resolv.conf":    resolvers,
	}
	s.martlet = newContainer(s.pod, volumes, env...)
	s.martlet.start(slices.Concat([]string{"/martlet"}, args, []string{
		"-v", "--dns", "127.0.0.1:53",
		"-L", "8080:" + insideName + ":80", "-L", "8086:[" + insideAddr6 + "]:80", "-L", "udp:8007:" + insideName + ":7",
		"-R", "2280:127.0.0.1:9000", "-R", "udp:2207:127.0.0.1:9007",
	})...)
	return s
}

// startGateway starts strongSwan, which knows one user. By MOBIKE it would tell its addresses inside, and
// while it is away IKE would look for it there.
func (s *sidecar) startGateway() {
	s.swan = startSwan(s.gateway, swanSettings{plugins: eapPlugins}, "ecdsa", fmt.Sprintf(`
connections { c { version = 2
	remote_addrs = %%any
	mobike = no
	proposals = aes256gcm16-prfsha256-x25519,default
	pools = four, six
	local { auth = pubkey
		id = %s
		certs = swan.pem }
	remote { auth = eap-mschapv2
		eap_id = %%any }
	children { net { local_ts = %s, %s
		esp_proposals = aes256gcm16 } } } }
pools { four { addrs = 10.97.0.0/24
	dns = %s }
six { addrs = fd97::/112
	dns = %s } }
secrets { eap-1 { id = %s
	secret = "%s" } }
`, swanID, netB4, netB6, insideAddr4, insideAddr6, user, password))
}

// probe asks as Kubernetes does, and returns whether the answer is yes, and what was said.
func (s *sidecar) probe(state string) (bool, string) {
	status, out := s.martlet.exec(s.probes[state]...)
	return status == 0, out
}

// probed fails the test unless each probe says what it should: it is alive all the time.
func (s *sidecar) probed(t *testing.T, startup, ready bool) {
	t.Helper()
	for state, want := range map[string]bool{"startup": startup, "live": true, "ready": ready} {
		if got, out := s.probe(state); got != want {
			t.Errorf("probe %s: %v, want %v: %s", state, got, want, out)
		}
	}
}

// until waits until a probe says yes, or no.
func (s *sidecar) until(t *testing.T, state string, want bool) {
	t.Helper()
	var last string
	until(t, fmt.Sprintf("probe %s says %v", state, want), func() bool {
		if s.martlet.main.ended() {
			t.Fatal("martlet ended")
		}
		got, out := s.probe(state)
		if out != last {
			t.Logf("probe %s: %v: %s", state, got, strings.TrimSpace(out))
			last = out
		}
		return got == want
	})
}

// virtual are the addresses that the pod has inside, as strongSwan tells.
func (s *sidecar) virtual(t *testing.T) (v4, v6 string) {
	t.Helper()
	for field := range strings.FieldsSeq(s.swan.sas()) {
		switch addr, _, _ := strings.Cut(field, "/"); {
		case strings.HasPrefix(addr, "10.97.0."):
			v4 = addr
		case strings.HasPrefix(addr, "fd97::"):
			v6 = addr
		}
	}
	if v4 == "" || v6 == "" {
		t.Fatalf("strongSwan gave no addresses:\n%s", s.swan.sas())
	}
	return v4, v6
}

// TestSidecar: Martlet without any privilege beside an application, as kubernetes.yaml has it. Other people's
// programs use each way into the tunnel; nothing goes beside it, whatever becomes of the gateway.
func TestSidecar(t *testing.T) {
	start(t)
	for _, tool := range []string{"curl", "dig", "ssh", "ssh-keygen", "/usr/sbin/sshd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s (Debian: curl, bind9-dnsutils, openssh-client, openssh-server)", filepath.Base(tool))
		}
	}
	s := newSidecar(t)
	leaks := tap(s.gateway, "eth0", onlyIKE)
	for i, step := range []struct {
		name string
		test func(*sidecar, *testing.T)
	}{
		{"probes without a gateway: alive, not started, not ready", (*sidecar).withoutGateway},
		{"probes with the gateway: started, alive, ready", (*sidecar).withGateway},
		{"the process has no privilege and no device", func(s *sidecar, t *testing.T) { s.martlet.restricted(t) }},
		{"curl through SOCKS5, names resolved inside", (*sidecar).socksNames},
		{"curl through SOCKS5, addresses", (*sidecar).socksAddresses},
		{"curl through SOCKS5, names resolved by the relay", (*sidecar).socksRelayedNames},
		{"curl through the HTTP proxy, GET", (*sidecar).httpGet},
		{"curl through the HTTP proxy, CONNECT", (*sidecar).httpConnect},
		{"dig through the relay by UDP and TCP", (*sidecar).dig},
		{"UDP through SOCKS5", (*sidecar).socksUDP},
		{"-L for TCP and UDP", (*sidecar).localForwards},
		{"-R for TCP and UDP", (*sidecar).remoteForwards},
		{"ssh by martlet nc", (*sidecar).ssh},
		{"ping by martlet ping", (*sidecar).ping},
		{"200 downloads at once", (*sidecar).downloads},
		{"the gateway dies and comes back", (*sidecar).outage},
		{"still no privilege and no device", func(s *sidecar, t *testing.T) { s.martlet.restricted(t) }},
		{"SIGTERM: connections drain, the SA is deleted", (*sidecar).terminate},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.test(s, t) }) && i < 2 {
			t.FailNow() // there is no tunnel
		}
	}
	leaks.clean(t)
	if others := s.outer.others(); len(others) > 0 {
		t.Errorf("the resolver outside was asked for %q", others)
	}
	if s.outer.times(outerName, "udp") == 0 {
		t.Error("the resolver outside was not asked for the gateway")
	}
	s.wouldLeak(t)
}

// TestNoDeviceWithoutPrivilege: who asks for a device where there can be none is not left in the belief
// that a proxy protects this host, and is told of it.
func TestNoDeviceWithoutPrivilege(t *testing.T) {
	start(t)
	c := newContainer(newNamespace(t, "pod"), nil)
	c.start("/martlet", "up", "alice@192.0.2.1", "--set", "node.mode=tun")
	status, out := c.main.wait(), c.main.out.String()
	for _, want := range []string{"this host may not be set up by this user", "CAP_NET_ADMIN", "--userspace"} {
		if status != 6 || !strings.Contains(out, want) {
			t.Errorf("status %d, and nothing of %q:\n%s", status, want, out)
		}
	}
}

// wouldLeak sees that what goes beside the tunnel arrives, and is seen.
func (s *sidecar) wouldLeak(t *testing.T) {
	t.Helper()
	open := tap(s.gateway, "eth0", "arp")
	out, err := s.pod.try("curl", "-sS", "--max-time", "30", "http://"+insideAddr4+"/")
	if err != nil || !strings.Contains(out, podAddr) {
		t.Errorf("beside the tunnel: %v\n%s", err, out)
	}
	if seen := strings.Join(open.seen(), "\n"); !strings.Contains(seen, insideAddr4) {
		t.Errorf("tcpdump does not see an open packet; it saw %q", seen)
	}
}

func (s *sidecar) withoutGateway(t *testing.T) {
	s.until(t, "live", true)
	s.probed(t, false, false)
}

func (s *sidecar) withGateway(t *testing.T) {
	s.startGateway()
	s.until(t, "ready", true)
	s.probed(t, true, true)
}

// outage: strongSwan is killed and started again. Martlet stays as it is, and its doors with it.
func (s *sidecar) outage(t *testing.T) {
	pid := s.martlet.main.cmd.Process.Pid
	doors := s.doors(t)
	s.swan.proc.stop(syscall.SIGKILL)
	// What comes while the tunnel is away waits for it, or fails; it goes nowhere else.
	waiting := s.pod.spawn("curl", nil, curl("-x", "socks5h://"+socks, "http://"+insideName+"/waits")...)
	s.until(t, "ready", false)
	s.probed(t, true, false)
	if now := s.doors(t); now != doors {
		t.Errorf("the doors were\n%s\nand are\n%s", doors, now)
	}
	s.gateway.run("rm", s.gateway.dir+"/vici.sock")
	s.startGateway()
	s.until(t, "ready", true)
	s.probed(t, true, true)
	t.Logf("curl that came meanwhile ended with %d: %s", waiting.wait(), strings.TrimSpace(waiting.out.String()))
	s.socksNames(t)
	s.httpConnect(t)
	s.dig(t)
	s.localForwards(t)
	s.remoteForwards(t)
	if s.martlet.main.ended() || s.martlet.main.cmd.Process.Pid != pid {
		t.Error("martlet was started again")
	}
	if now := s.doors(t); now != doors {
		t.Errorf("the doors were\n%s\nand are\n%s", doors, now)
	}
}

// doors are the ports on which the pod listens.
func (s *sidecar) doors(t *testing.T) string {
	t.Helper()
	out, err := s.pod.try("ss", "-Hlntu")
	if err != nil {
		t.Fatalf("ss: %v\n%s", err, out)
	}
	var ports []string
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], "127.") {
			ports = append(ports, f[0]+" "+f[4])
		}
	}
	slices.Sort(ports)
	for _, port := range []string{"tcp 127.0.0.1:1080", "tcp 127.0.0.1:53", "udp 127.0.0.1:53", "tcp 127.0.0.1:8080", "tcp 127.0.0.1:9586", "udp 127.0.0.1:8007"} {
		if !slices.Contains(ports, port) {
			t.Errorf("%s is not open: %q", port, ports)
		}
	}
	return strings.Join(ports, "\n")
}

// terminate: who is in may stay until he is done, nobody new comes in, and then the SA goes.
func (s *sidecar) terminate(t *testing.T) {
	to := filepath.Join(t.TempDir(), "gate")
	download := s.pod.spawn("curl", nil, curl("-N", "-o", to, "-w", "%{http_code} %{size_download}\n", "-x", "socks5h://"+socks, "http://"+insideName+"/gate")...)
	until(t, "half of the download has come", func() bool {
		info, err := os.Stat(to)
		return err == nil && info.Size() == half
	})
	if err := s.martlet.main.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until(t, "nobody new is let in", func() bool {
		_, err := s.pod.try(curl("-x", "socks5h://"+socks, "http://"+insideName+"/")...)
		return err != nil
	})
	s.probed(t, true, false)
	if s.martlet.main.ended() || download.ended() {
		t.Error("it did not wait for the download")
	}
	close(s.intranet.gate)
	if status := download.wait(); status != 0 || strings.TrimSpace(download.out.String()) != fmt.Sprintf("200 %d", 2*half) {
		t.Errorf("the download ended with %d: %s", status, download.out.String())
	}
	if status := s.martlet.main.wait(); status != 0 {
		t.Errorf("martlet ended with %d", status)
	}
	until(t, "strongSwan has no SA left", func() bool { return strings.TrimSpace(s.swan.sas()) == "" })
	if log := s.swan.log(); !strings.Contains(log, "received DELETE for IKE_SA c[") {
		t.Error("strongSwan's log has no DELETE")
	}
	out := s.martlet.main.out.String()
	for _, bad := range []string{"panic", "goroutine "} {
		if strings.Contains(out, bad) {
			t.Errorf("martlet said %q", bad)
		}
	}
}
