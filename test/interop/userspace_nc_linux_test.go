package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// script writes a shell script that runs a program in a container of its own, with input and output of whoever
// calls it.
func (c *container) script(name string, args ...string) string {
	c.ns.t.Helper()
	inside := c.cell
	inside.Args = args
	order, err := json.Marshal(inside)
	if err != nil {
		c.ns.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		c.ns.t.Fatal(err)
	}
	return c.ns.write(name, fmt.Sprintf("exec env -i '%s=%s' unshare --mount --pid --ipc --uts --fork %s\n", cellVariable, order, self))
}

// TestNetcatInAContainer: ssh's ProxyCommand is martlet nc in a container without any privilege, with a tunnel of its
// own to strongSwan for as long as it runs.
func TestNetcatInAContainer(t *testing.T) {
	start(t)
	for _, tool := range []string{"ssh", "ssh-keygen", "/usr/sbin/sshd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s (Debian: openssh-client, openssh-server)", filepath.Base(tool))
		}
	}
	s := newSidecar(t)
	s.martlet.main.stop(syscall.SIGKILL) // its tunnel is not the one that is tried
	s.startGateway()
	leaks := tap(s.gateway, "eth0", onlyIKE)
	volume := secretVolume(t, map[string]string{"ca.pem": readFile(t, shared.pki.ca()), "office.toml": fmt.Sprintf(`
[connection.office]
remote = [%q]
request = ["ipv4", "ipv6"]
tcp = "never"
[connection.office.local]
auth = "eap"
user = %q
secret = %q
[connection.office.peer]
auth = "cert"
id = %q
ca = ["ca.pem"]
`, outerName, user, password, swanID)})
	volumes := map[string]string{"etc/resolv.conf": s.martlet.cell.Volumes["etc/resolv.conf"], "run/secrets/office": volume}
	nc := newContainer(s.pod, volumes)
	for i, name := range []string{"four.inside.test", insideAddr6} {
		proxy := nc.script("proxy", "/martlet", "nc", "-c", "/run/secrets/office/office.toml", name, "22")
		out, err := s.pod.try("ssh", "-F", "none", "-i", s.sshKey, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
			"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ProxyCommand=sh "+proxy,
			"root@"+name, "echo $SSH_CONNECTION; seq 1 20000 | tail -n 1")
		if from := []string{"10.97.0.", "fd97::"}[i]; err != nil || !strings.HasPrefix(out, from) || !strings.HasSuffix(out, "\n20000\n") {
			t.Errorf("ssh to %s: %v\n%swant a connection from %s", name, err, tail(out, 20), from)
		}
		until(t, "strongSwan has no SA left", func() bool { return strings.TrimSpace(s.swan.sas()) == "" })
		if n := strings.Count(s.swan.log(), "received DELETE for IKE_SA c["); n != i+1 {
			t.Errorf("strongSwan's log has %d times a DELETE, want %d", n, i+1)
		}
	}
	leaks.clean(t)
	if others := s.outer.others(); len(others) > 0 {
		t.Errorf("the resolver outside was asked for %q", others)
	}
}
