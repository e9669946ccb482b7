//go:build darwin || freebsd || openbsd

package firewall

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"go.uber.org/zap"
)

// pfctlTime is how long pfctl may take to do what it is told.
const pfctlTime = 20 * time.Second

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
	ctx, cancel := context.WithTimeout(context.Background(), pfctlTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/sbin/pfctl", args...)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return string(out), nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("not done after %s", pfctlTime)
	}
	if said := bytes.TrimSpace(out[:min(len(out), 500)]); len(said) > 0 {
		err = fmt.Errorf("%w: %s", err, said)
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
