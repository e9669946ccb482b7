package martlet

import (
	"os"

	"martlet/config"
	"martlet/tun"
)

// InProcess tells whether the packets of a tunnel should end in this process, for a program that
// leaves that to the configuration and to where it runs: whether Host should not be set. Why
// is in words, and empty where the file or nothing asks for a device.
func InProcess(c *config.Config) (yes bool, why string) {
	return inProcess(c, containerSign() != "", hostRefused)
}

func inProcess(c *config.Config, container bool, refused func() string) (yes bool, why string) {
	mode := c.Node.Mode
	if mode == "" && container {
		mode = config.ModeAuto
	}
	switch mode {
	case config.ModeUserspace:
		return true, "it is asked for"
	case config.ModeAuto:
		if _, doors := c.Doors(); doors {
			return true, "there are proxies or forwards"
		}
		why = refused()
		return why != "", why
	}
	return false, ""
}

// hostRefused says why this process may not make the tunnel the host's; empty if it may.
func hostRefused() string {
	if !mayConfigureHost() {
		return "this process may not set up the host"
	}
	if tun.Driver() != nil {
		return "there is no driver for a device"
	}
	return ""
}

// containerSign says by what we know that this is a container; empty if nothing says so.
func containerSign() string {
	for _, file := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	// systemd's container interface, which podman and LXC keep to, and the kubelet.
	for _, name := range []string{"container", "KUBERNETES_SERVICE_HOST"} {
		if os.Getenv(name) != "" {
			return name
		}
	}
	return ""
}
