package main

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// nobody is the user of the image, of its root file system, and of all that runs it.
const nobody = 65534

// TestPodIsRestricted: each rule of Pod Security "restricted", and of our own a root file system that is
// read only, holds for each container of the manifest.
func TestPodIsRestricted(t *testing.T) {
	_, p := kubernetes(t)
	s := p.Spec.SecurityContext
	if !s.RunAsNonRoot || s.RunAsUser != nobody || s.RunAsGroup != nobody || s.FSGroup != nobody || s.SeccompProfile.Type != "RuntimeDefault" {
		t.Errorf("the pod's security context is %+v", s)
	}
	if mount := p.Spec.AutomountServiceAccountToken; mount == nil || *mount {
		t.Error("the pod gets a token for the cluster, which nobody needs")
	}
	if len(p.Spec.InitContainers) != 1 || len(p.Spec.Containers) != 1 {
		t.Fatalf("%d init containers and %d containers, want one each", len(p.Spec.InitContainers), len(p.Spec.Containers))
	}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		s := c.SecurityContext
		if !s.RunAsNonRoot || s.RunAsUser != nobody || s.RunAsGroup != nobody {
			t.Errorf("%s runs as %d:%d", c.Name, s.RunAsUser, s.RunAsGroup)
		}
		if escalate := s.AllowPrivilegeEscalation; escalate == nil || *escalate {
			t.Errorf("%s may gain privileges", c.Name)
		}
		if !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) {
			t.Errorf("%s drops %q", c.Name, s.Capabilities.Drop)
		}
		if s.SeccompProfile.Type != "RuntimeDefault" {
			t.Errorf("%s has the seccomp profile %q", c.Name, s.SeccompProfile.Type)
		}
		if !s.ReadOnlyRootFilesystem {
			t.Errorf("%s may write to its root file system", c.Name)
		}
	}
	for _, v := range p.Spec.Volumes {
		if (v.EmptyDir == nil) == (v.Secret == nil) {
			t.Errorf("volume %s is neither an empty folder nor a secret", v.Name)
		}
		if v.Secret != nil && v.Secret.DefaultMode != 0o440 {
			t.Errorf("the files of volume %s have mode %o", v.Name, v.Secret.DefaultMode)
		}
	}
}

// TestPodHasASidecar: Martlet is a sidecar as Kubernetes has them, watched from inside, with time for
// its connections to end, and memory that makes it small.
func TestPodHasASidecar(t *testing.T) {
	environment, p := kubernetes(t)
	c := p.Spec.InitContainers[0]
	if c.RestartPolicy != "Always" || len(c.EnvFrom) != 1 || c.EnvFrom[0].ConfigMapRef.Name != "martlet" || c.Command != nil || c.Env != nil {
		t.Errorf("the sidecar is %+v", c)
	}
	for state, probe := range map[string]*podProbe{"startup": c.StartupProbe, "live": c.LivenessProbe, "ready": c.ReadinessProbe} {
		if probe == nil {
			t.Errorf("no probe for %s", state)
			continue
		}
		if diff := cmp.Diff([]string{"/martlet", "healthcheck", state}, probe.Exec.Command); diff != "" {
			t.Error(diff)
		}
		if probe.PeriodSeconds <= 0 || probe.TimeoutSeconds <= 0 || probe.FailureThreshold <= 0 {
			t.Errorf("the probe for %s is %+v", state, probe)
		}
	}
	drain, err := time.ParseDuration(environment["MARTLET_NODE_DRAIN"])
	if err != nil {
		t.Fatal(err)
	}
	if grace := time.Duration(p.Spec.TerminationGracePeriodSeconds) * time.Second; grace < drain+10*time.Second {
		t.Errorf("killed after %v, connections may go on for %v", grace, drain)
	}
	fitsSmall(t, c.Resources.Limits.Memory, "Mi")
	mounts := map[string]bool{}
	for _, m := range c.VolumeMounts {
		mounts[m.MountPath] = m.ReadOnly
	}
	if diff := cmp.Diff(map[string]bool{"/run/martlet": false, "/run/secrets/office": true}, mounts); diff != "" {
		t.Error(diff)
	}
}

// fitsSmall: with a limit below 256 MiB the profile is "small"; the README tells what it then needs.
func fitsSmall(t *testing.T, limit, unit string) {
	t.Helper()
	have, err := strconv.Atoi(strings.TrimSuffix(limit, unit))
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`below (\d+) MiB with 200 connections`).FindSubmatch(readme)
	if match == nil {
		t.Fatal("the README does not tell how much memory 200 connections need")
	}
	need, err := strconv.Atoi(string(match[1]))
	if err != nil {
		t.Fatal(err)
	}
	if have < need || have >= 256 {
		t.Errorf("the limit is %s; 200 connections need %d MiB, and with 256 MiB it would not be small", limit, need)
	}
}

// TestComposeIsRestricted: the services of the composition have no more rights than the pod.
func TestComposeIsRestricted(t *testing.T) {
	c := compose(t)
	user := strconv.Itoa(nobody)
	for name, s := range c.Services {
		if s.User != user+":"+user || !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) ||
			!slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
			t.Errorf("%s is not restricted: %+v", name, s)
		}
	}
	m, app := c.Services["martlet"], c.Services["application"]
	if len(c.Services) != 2 || m.Healthcheck == nil || m.NetworkMode != "" {
		t.Fatalf("the services are %+v", c.Services)
	}
	if app.NetworkMode != "service:martlet" || app.DependsOn["martlet"].Condition != "service_healthy" {
		t.Errorf("the application has the network %q and waits for %+v", app.NetworkMode, app.DependsOn)
	}
	if diff := cmp.Diff([]string{"CMD", "/martlet", "healthcheck", "ready"}, m.Healthcheck.Test); diff != "" {
		t.Error(diff)
	}
	if !slices.Equal(m.Secrets, []string{"office"}) || c.Secrets["office"].File == "" {
		t.Errorf("the secrets are %q of %v", m.Secrets, c.Secrets)
	}
	if want := "/run/martlet:uid=" + user + ",gid=" + user + ",mode=0700,size=1m"; !slices.Equal(m.Tmpfs, []string{want}) {
		t.Errorf("file systems in memory are %q, want %q", m.Tmpfs, want)
	}
	drain, err := time.ParseDuration(m.Environment["MARTLET_NODE_DRAIN"])
	if err != nil {
		t.Fatal(err)
	}
	if m.Grace < drain+10*time.Second {
		t.Errorf("killed after %v, connections may go on for %v", m.Grace, drain)
	}
	fitsSmall(t, m.MemLimit, "m")
	if m.Build == nil || filepath.Join("dist", m.Build.Context) != filepath.Join("..", "..") {
		t.Errorf("built from %+v", m.Build)
	}
	if _, err := os.Stat(filepath.Join("..", "..", m.Build.Dockerfile)); err != nil {
		t.Error(err)
	}
}

// TestApplicationsUseTheTunnel: in both files the applications' proxies are the one that Martlet opens, and
// names go through it unresolved.
func TestApplicationsUseTheTunnel(t *testing.T) {
	environment, p := kubernetes(t)
	c := compose(t)
	application := map[string]string{}
	for _, e := range p.Spec.Containers[0].Env {
		application[e.Name] = e.Value
	}
	for name, files := range map[string][2]map[string]string{
		"kubernetes": {environment, application},
		"compose":    {c.Services["martlet"].Environment, c.Services["application"].Environment},
	} {
		listen := files[0]["MARTLET_PROXY_MAIN_LISTEN"]
		if !strings.HasPrefix(listen, "127.0.0.1:") {
			t.Errorf("%s: the proxy listens on %q", name, listen)
		}
		want := map[string]string{
			"ALL_PROXY": "socks5h://" + listen, "HTTPS_PROXY": "socks5h://" + listen,
			"http_proxy": "http://" + listen, "NO_PROXY": "localhost,127.0.0.1,::1",
		}
		if diff := cmp.Diff(want, files[1]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestContainerfile: the image is made by the script and Go of the version that this is, of nothing
// else, for the user that it has.
func TestContainerfile(t *testing.T) {
	text := string(dist(t, "Containerfile"))
	user := strconv.Itoa(nobody)
	for _, want := range []string{
		"\nFROM scratch\nCOPY --from=build /rootfs /\n",
		"\nUSER " + user + ":" + user + "\n",
		"\nENTRYPOINT [\"/martlet\"]\n",
		"CMD [\"/martlet\", \"healthcheck\"]\n",
		" cmd/martlet/dist/rootfs /rootfs ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the Containerfile does not have %q", want)
		}
	}
	mod, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	needs := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	has := regexp.MustCompile(`(?m)^FROM .*golang:(\d+\.\d+)\.\d+-\w+ AS build$`).FindStringSubmatch(text)
	if needs == nil || has == nil || has[1] != string(needs[1]) {
		t.Errorf("go.mod needs Go %s, the Containerfile has %v", needs, has)
	}
}

// TestRootfs: the root file system has what the program needs and nothing else, and is the
// same, octet for octet, when it is built again.
func TestRootfs(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil || runtime.GOOS != "linux" {
		t.Skip("needs Linux and bash")
	}
	if _, err := os.Stat("/etc/ssl/certs/ca-certificates.crt"); err != nil {
		t.Skip("needs certificate authorities (Debian: ca-certificates)")
	}
	var trees []map[string]string
	for _, name := range []string{"one", "two"} {
		to := filepath.Join(t.TempDir(), name)
		cmd := exec.Command("dist/rootfs", to, "1.2.3")
		cmd.Env = append(os.Environ(), "GOFLAGS=-pgo=off")
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("rootfs: %v\n%s", err, b)
		}
		out, err := exec.Command(filepath.Join(to, "martlet"), "version").CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "martlet 1.2.3 ") {
			t.Errorf("martlet version: %v\n%s", err, out)
		}
		trees = append(trees, tree(t, to))
	}
	if diff := cmp.Diff(trees[0], trees[1]); diff != "" {
		t.Errorf("built twice: %s", diff)
	}
	for name, want := range map[string]string{
		"etc/passwd": "nobody:x:65534:65534:nobody:/:/martlet\n",
		"etc/group":  "nobody:x:65534:\n",
	} {
		if !strings.HasSuffix(trees[0][name], want) {
			t.Errorf("%s is %q, want %q", name, trees[0][name], want)
		}
	}
	want := []string{"", "etc", "etc/group", "etc/passwd", "etc/ssl", "etc/ssl/certs", "etc/ssl/certs/ca-certificates.crt", "martlet"}
	var have []string
	for name := range trees[0] {
		have = append(have, name)
	}
	slices.Sort(have)
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

// tree is each entry below a folder: its mode and time, and a file's octets.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	entries := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		text := info.Mode().String() + " " + info.ModTime().UTC().String() + " "
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if len(b) > 1<<16 {
				b = fmt.Appendf(nil, "%x", sha256.Sum256(b))
			}
			text += string(b)
		}
		entries[strings.TrimPrefix(strings.TrimPrefix(path, root), "/")] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}
