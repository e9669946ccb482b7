package martlet

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"martlet/config"
	"martlet/ike"
	"martlet/tun"
)

// What to do depends on why the host could not be set up, and on the system.
func TestHostErrorHints(t *testing.T) {
	c := &config.Config{}
	c.Node.State = "/run/martlet"
	taken := &tun.OpenError{Name: "x", Hint: "choose another name", Err: syscall.EBUSY}
	for name, tt := range map[string]struct {
		goos string
		err  error
		hint string
	}{
		"state folder":            {"linux", &fs.PathError{Op: "mkdir", Path: "/run/martlet", Err: syscall.EACCES}, "node.state"},
		"device taken":            {"linux", fmt.Errorf("tun: %w", syscall.EBUSY), "node.device to a name of your own"},
		"device taken on macOS":   {"darwin", taken, "node.device to another utun"},
		"device taken on OpenBSD": {"openbsd", taken, "node.device to another tun"},
		"no privilege":            {"linux", fmt.Errorf("route: %w", syscall.EPERM), "CAP_NET_ADMIN"},
		"no privilege on FreeBSD": {"freebsd", fmt.Errorf("route: %w", syscall.EPERM), "as root"},
		"no wintun.dll":           {"windows", &tun.OpenError{Hint: "put wintun.dll beside this program", Err: syscall.ENOENT}, "wintun.dll beside this program; or add --userspace"},
		"anything else":           {"linux", syscall.EOPNOTSUPP, "/dev/net/tun"},
		"anything on Windows":     {"windows", syscall.EOPNOTSUPP, "administrator"},
	} {
		if hint := hostHint(tt.goos, c, tt.err); !strings.Contains(hint, tt.hint) {
			t.Errorf("%s: %s", name, hint)
		}
	}
	e, ok := errors.AsType[*Error](hostError(c, "x", taken))
	if !ok || e.Code != ike.CodeHost || e.Why != syscall.EBUSY.Error() || !strings.Contains(e.Hint, "node.device") {
		t.Errorf("%+v", e)
	}
}

// Who may not set up a host hears what the system asks for, and what goes without.
func TestNoPrivilege(t *testing.T) {
	for goos, words := range map[string][2]string{
		"linux": {"CAP_NET_ADMIN", "sudo"}, "darwin": {"root", "sudo"}, "freebsd": {"root", "sudo"},
		"openbsd": {"root", "doas"}, "windows": {"administrator", "console that runs as administrator"},
	} {
		e := noPrivilege(goos)
		if !strings.Contains(e.Why, words[0]) || !strings.Contains(e.Hint, words[1]) || !strings.Contains(e.Hint, "--userspace") {
			t.Errorf("%s: %s; %s", goos, e.Why, e.Hint)
		}
	}
}
