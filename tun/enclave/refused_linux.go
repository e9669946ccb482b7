package enclave

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"martlet/tun"
)

// refused adds to an error of setting up why the system does not want it, and what to do.
func refused(err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	executable, pathErr := os.Executable()
	if pathErr != nil {
		executable = os.Args[0]
	}
	e.Why, e.Hint = reason(e.Err, os.DirFS("/"), executable)
	return e
}

// elsewhere is what remains where namespaces are refused for good.
const elsewhere = "; or use martlet up --userspace with --proxy or -L, which needs none of this"

// reason tells what on this system refuses namespaces, or work inside of them.
func reason(err error, system fs.FS, executable string) (why, hint string) {
	is := func(path, value string) bool {
		b, err := fs.ReadFile(system, path)
		return err == nil && strings.TrimSpace(string(b)) == value
	}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS):
		for _, kind := range []string{"user", "net", "mnt"} {
			if key := "max_" + kind + "_namespaces"; is("proc/sys/user/"+key, "0") {
				return "user." + key + " is 0 here, which forbids them", "have root set it: sysctl user." + key + "=10000" + elsewhere
			}
		}
		return "as many namespaces are there as this user may have, or they are nested too deep",
			"end some containers, or raise user.max_user_namespaces" + elsewhere
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return "this kernel has no user namespaces", "use one with CONFIG_USER_NS" + elsewhere
	case !errors.Is(err, fs.ErrPermission):
		return err.Error(), "report this, with what the system is"
	case is("proc/sys/kernel/unprivileged_userns_clone", "0"):
		return "kernel.unprivileged_userns_clone is 0, which lets only root make user namespaces",
			"have root set it to 1 with sysctl" + elsewhere
	case is("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"):
		return "AppArmor lets only programs with a profile use user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1)",
			fmt.Sprintf("have root put this into /etc/apparmor.d/martlet and run apparmor_parser -r on it: "+
				"abi <abi/4.0>, profile martlet %s flags=(unconfined) { userns, }", executable) + elsewhere
	case filtered(system):
		return "a seccomp filter is around this process: containers forbid new namespaces so",
			"run it outside of the container, or with a seccomp profile that allows clone, mount and umount2 with namespaces" + elsewhere
	}
	return "the system does not let this user do so: " + err.Error(),
		"look for what restricts user namespaces here: SELinux, a chroot, a container's rights" + elsewhere
}

// filtered tells whether a seccomp filter is around this process (proc(5)).
func filtered(system fs.FS) bool {
	status, err := fs.ReadFile(system, "proc/self/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "Seccomp:"); ok {
			return strings.TrimSpace(value) == "2"
		}
	}
	return false
}

// noDevice explains why there is no TUN inside.
func noDevice(err error) error {
	e := &Error{Step: "open a TUN device inside", Why: err.Error(), Err: err}
	if open, ok := errors.AsType[*tun.OpenError](err); ok {
		e.Why, e.Hint = open.Err.Error(), open.Hint
	}
	inside, ok := errors.AsType[*Error](err)
	switch {
	case ok && inside.Step == stepDriver && errors.Is(err, fs.ErrPermission):
		e.Hint = "have root let users open /dev/net/tun (chmod 0666, as most systems do), or pass the device into the container"
	case errors.Is(err, fs.ErrPermission):
		e.Why, e.Hint = reason(err, os.DirFS("/"), os.Args[0])
	}
	return e
}
