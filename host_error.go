package martlet

import (
	"errors"
	"io/fs"
	"runtime"
	"strings"
	"syscall"

	"martlet/config"
	"martlet/ike"
	"martlet/tun"
)

// noDevice is what is left to who has no device.
const noDevice = "add --userspace and --proxy 127.0.0.1:1080 for a proxy in place of a device, which needs no right and protects only what uses it"

// noPrivilege says what a process lacks that may not set up a system.
func noPrivilege(goos string) *Error {
	e := &Error{
		Code: ike.CodeHost,
		What: "this host may not be set up by this user",
		Why:  "devices, routes and the packet filter need root, which this process is not",
		Hint: "run it as root, with sudo for example; or " + noDevice,
	}
	switch goos {
	case "linux":
		e.Why = "devices, routes and the packet filter need CAP_NET_ADMIN, which this process does not have"
	case "openbsd":
		e.Hint = "run it as root, with doas for example; or " + noDevice
	case "windows":
		e.Why = "devices, routes and the packet filter need an administrator, and this process was not started as one"
		e.Hint = "start it from a console that runs as administrator; or " + noDevice
	}
	return e
}

// hostError tells of a part of the host that could not be set up.
func hostError(c *config.Config, what string, err error) error {
	e := &Error{Code: ike.CodeHost, What: what, Hint: hostHint(runtime.GOOS, c, err)}
	if open, ok := errors.AsType[*tun.OpenError](err); ok {
		err = open.Err // its hint is in ours
	}
	e.Why = strings.ReplaceAll(err.Error(), "\n", "; ")
	return e
}

func hostHint(goos string, c *config.Config, err error) string {
	path, isPath := errors.AsType[*fs.PathError](err)
	open, isOpen := errors.AsType[*tun.OpenError](err)
	switch {
	case isPath && c.Node.State != "" && strings.HasPrefix(path.Path, c.Node.State):
		return "set node.state to a folder that root may write; what must be undone after a crash stands there"
	case errors.Is(err, syscall.EBUSY):
		name := map[string]string{"darwin": "another utun with a number", "openbsd": "another tun with a number"}[goos]
		if name == "" {
			name = "a name of your own"
		}
		return "end the other program, or set node.device to " + name
	case errors.Is(err, fs.ErrPermission) && goos == "linux":
		return "this needs root outside of a restricted container: CAP_NET_ADMIN, /dev/net/tun and a writable /proc/sys"
	case isOpen && open.Hint != "":
		return open.Hint + "; or " + noDevice
	case goos == "linux":
		return "this needs /dev/net/tun, and nftables in the kernel"
	}
	return noPrivilege(goos).Hint
}
