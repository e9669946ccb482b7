package privsep

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// isEnd tells whether a wire only ended.
func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// restrict takes away what a child must not have from the calling thread, which starts it next. Its own
// capabilities go with those of its user, or here where it stays of ours. limits are what it is not kept
// from.
func restrict(another bool, env []string) (limits []string, err error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("privsep: no_new_privs: %w", err)
	}
	if abi, err := restrictFiles(env); err != nil {
		limits = append(limits, fmt.Sprintf("Landlock keeps it from no file that its user may open: %v", err))
	} else if abi < 6 {
		limits = append(limits, fmt.Sprintf("this kernel's Landlock (ABI %d) does not keep it from abstract sockets and from signals to processes of its user", abi))
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return nil, fmt.Errorf("privsep: ambient capabilities: %w", err)
	}
	// What is left in it cannot be had, for no_new_privs.
	if err := emptyBounding(); err != nil {
		limits = append(limits, fmt.Sprintf("its bounding set has capabilities left: %v", err))
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return nil, fmt.Errorf("privsep: capabilities: %w", err)
	}
	for i := range sets {
		sets[i].Inheritable = 0
		if !another {
			sets[i] = unix.CapUserData{}
		}
	}
	if err := unix.Capset(&header, &sets[0]); err != nil {
		return nil, fmt.Errorf("privsep: capabilities: %w", err)
	}
	return limits, nil
}

// powerless is an error if this process has rights that restrict took.
func powerless() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	if sets != [2]unix.CapUserData{} {
		return fmt.Errorf("privsep: capabilities are left: %+v", sets)
	}
	if n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || n != 1 {
		return fmt.Errorf("privsep: no_new_privs is %d: %w", n, err)
	}
	return nil
}

func emptyBounding() error {
	for c := uintptr(0); ; c++ {
		switch err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); {
		case errors.Is(err, unix.EINVAL):
			return nil // it was the last that the kernel knows
		case err != nil:
			return err
		}
	}
}

// Rights of Landlock: those of files, and those that only folders have.
const (
	fileRights   = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE | truncate | ioctl
	readRights   = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	deviceRights = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | ioctl
	runRights    = readRights | unix.LANDLOCK_ACCESS_FS_EXECUTE
	truncate     = unix.LANDLOCK_ACCESS_FS_TRUNCATE
	ioctl        = unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// opened is what a child may open: what every program reads that asks for names and checks
// certificates, kernel and hardware, and the terminal. Of a folder it may open all that its user may.
func opened(env []string) map[string]uint64 {
	out := map[string]uint64{"/dev/null": deviceRights, "/dev/tty": deviceRights, self: runRights}
	for _, path := range []string{
		"/etc", "/proc", "/sys", "/usr/share/zoneinfo", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
		"/usr/share/pki", "/var/lib/ca-certificates", "/usr/share/ca-certs", "/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf",
	} {
		out[path] = readRights
	}
	for _, path := range libraries {
		out[path] = runRights
	}
	for _, entry := range env { // crypto/x509
		if name, list, _ := strings.Cut(entry, "="); name == "SSL_CERT_FILE" || name == "SSL_CERT_DIR" {
			for path := range strings.SplitSeq(list, ":") {
				out[path] = readRights
			}
		}
	}
	return out
}

// landlock is the version of Landlock that the kernel has.
func landlock() (abi int, err error) {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0, errno
	}
	return int(v), nil
}

// restrictFiles restricts the calling thread by Landlock, as far as the kernel knows it, and tells its
// version there.
func restrictFiles(env []string) (abi int, err error) {
	if abi, err = landlock(); err != nil {
		return 0, err
	}
	// All that a version knows of files, of the network nothing.
	ruleset := unix.LandlockRulesetAttr{Handled_access_fs: unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1}
	size := unsafe.Sizeof(ruleset.Handled_access_fs)
	for _, more := range []struct {
		abi    int
		rights uint64
	}{{2, unix.LANDLOCK_ACCESS_FS_REFER}, {3, truncate}, {5, ioctl}} {
		if abi >= more.abi {
			ruleset.Handled_access_fs |= more.rights
		}
	}
	if abi >= 6 {
		ruleset.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
		size = unsafe.Offsetof(ruleset.Scoped) + unsafe.Sizeof(ruleset.Scoped)
	}
	r, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&ruleset)), size, 0)
	if errno != 0 {
		return 0, errno
	}
	defer unix.Close(int(r))
	for path, rights := range opened(env) {
		if err := allow(int(r), path, rights&ruleset.Handled_access_fs); err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, r, 0, 0); errno != 0 {
		return 0, errno
	}
	return abi, nil
}

// allow adds a rule for a file or what is below a folder. What is not there needs none.
func allow(ruleset int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil //nolint:nilerr // systems differ in what they have
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= fileRights
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
