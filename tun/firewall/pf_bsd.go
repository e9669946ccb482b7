//go:build darwin || freebsd || openbsd

package firewall

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"

	"go.uber.org/zap"

	"martlet/tun/platform"
)

// New makes a Firewall; log may be nil.
func New(log *zap.Logger) Firewall { return newAnchored(log) }

// Recover removes the anchors of ours whose interface does not exist, and tells whether there were
// any: a TUN vanishes with its process, the anchor of a killed process stays. That of the device keep
// is spared, which may be about to be opened.
func Recover(keep string, log *zap.Logger) (found bool, err error) {
	return newAnchored(log).recover(keep, func(device string) bool {
		_, err := net.InterfaceByName(device)
		return err == nil
	})
}

func newAnchored(log *zap.Logger) *anchored {
	if log == nil {
		log = zap.NewNop()
	}
	g := map[string]grammar{"darwin": macOS, "freebsd": freeBSD, "openbsd": openBSD}[runtime.GOOS]
	return &anchored{grammar: g, log: log, run: runPfctl, user: os.Geteuid(), interfaces: outerInterfaces}
}

func outerInterfaces(device string) []string {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var out []string
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 && i.Name != device {
			out = append(out, i.Name)
		}
	}
	return out
}

func runPfctl(text string, args ...string) (string, error) {
	out, err := platform.Run(text, "/sbin/pfctl", args...)
	if err == nil {
		return out, nil
	}
	hint := ""
	switch {
	case denied(err):
		hint = "; needs root: run with sudo or doas"
	case strings.Contains(err.Error(), "/dev/pf"):
		hint = "; the kernel has no packet filter: load it with kldload pf, and have it loaded at boot by pf_enable=YES in /etc/rc.conf"
	}
	return "", fmt.Errorf("firewall: pfctl %s: %w%s", strings.Join(args, " "), err, hint)
}
