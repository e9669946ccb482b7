package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"martlet/config"
)

// secretFile is the variable whose value is a path of the container.
const secretFile = "MARTLET_CONNECTION_OFFICE_LOCAL_SECRET_FILE"

// TestSettingsOfContainers: what the container files set are keys, and make a complete configuration: a client without
// privilege with a proxy on loopback, and with a secret from a file.
func TestSettingsOfContainers(t *testing.T) {
	if _, err := os.Stat("/etc/ssl/certs/ca-certificates.crt"); err != nil {
		t.Skip("needs certificate authorities (Debian: ca-certificates)")
	}
	environment, p := kubernetes(t)
	for name, set := range map[string]map[string]string{
		"kubernetes": environment,
		"compose":    compose(t).Services["martlet"].Environment,
	} {
		mounted := slices.ContainsFunc(p.Spec.InitContainers[0].VolumeMounts, func(m podMount) bool { return m.MountPath == filepath.Dir(set[secretFile]) })
		if !mounted && set[secretFile] != "/run/secrets/office" { // where compose mounts the secret of that name
			t.Errorf("%s: nothing is mounted at %s", name, set[secretFile])
		}
		file := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(file, []byte("open sesame"), 0o600); err != nil {
			t.Fatal(err)
		}
		source := &config.Source{}
		for key, value := range set {
			if key == secretFile {
				value = file
			}
			source.Env = append(source.Env, key+"="+value)
		}
		slices.Sort(source.Env)
		c, err := source.Load()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, w := range c.Warnings {
			t.Errorf("%s: %s: %s", name, w.Key, w.Text)
		}
		office := c.Connections["office"]
		if c.Node.Mode != "userspace" || c.Node.Profile != "small" || c.Node.Monitor != "127.0.0.1:9586" || office == nil || len(c.Connections) != 1 ||
			c.Proxies["main"] == nil || c.Proxies["main"].Listen != "127.0.0.1:1080" {
			t.Errorf("%s: the configuration is %+v", name, c)
			continue
		}
		if string(office.Local.Secret.Value) != "open sesame" || office.Keep != config.KeepUp || !slices.Equal(office.Request, []string{"ipv4", "ipv6"}) {
			t.Errorf("%s: the connection is %+v", name, office)
		}
	}
}

// TestCommandsOfContainers: the command lines of the container files are ones that the program takes.
func TestCommandsOfContainers(t *testing.T) {
	_, p := kubernetes(t)
	c, m := p.Spec.InitContainers[0], compose(t).Services["martlet"]
	lines := [][]string{
		c.Args, c.StartupProbe.Exec.Command[1:], c.LivenessProbe.Exec.Command[1:], c.ReadinessProbe.Exec.Command[1:],
		m.Command, m.Healthcheck.Test[2:],
	}
	for _, found := range regexp.MustCompile(`(?m)(?:^| )CMD (\[.*\])$`).FindAllSubmatch(dist(t, "Containerfile"), -1) {
		var line []string
		if err := json.Unmarshal(found[1], &line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, slices.DeleteFunc(line, func(s string) bool { return s == "/martlet" }))
	}
	if len(lines) != 8 {
		t.Errorf("%d command lines: %q", len(lines), lines)
	}
	for _, line := range lines {
		cmd, rest, err := newRoot(line).Find(line)
		if err == nil {
			err = cmd.ParseFlags(rest)
		}
		if err == nil {
			err = cmd.ValidateArgs(cmd.Flags().Args())
		}
		if err != nil || !strings.HasPrefix(cmd.CommandPath(), "martlet ") {
			t.Errorf("%q: %v", line, err)
		}
	}
	if !slices.Equal(c.Args, m.Command) || !cmp.Equal(c.Args, lines[len(lines)-2]) {
		t.Errorf("they start %q", lines)
	}
}
