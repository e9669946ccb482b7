package enclave

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	resolvConf = "/etc/resolv.conf"
	// maxResolvers is what the C library takes (MAXNS of resolv.h).
	maxResolvers = 3
)

// doors are folders with sockets of services that resolve names outside.
var doors = []string{
	"/run/nscd", "/var/run/nscd", // the C library asks it before anything else
	"/run/systemd/resolve", // nss-resolve
	"/run/avahi-daemon", "/var/run/avahi-daemon",
	"/run/dbus", "/var/run/dbus", // resolved again, NetworkManager and others
}

// setMounts puts a resolv.conf of ours in place, which is returned open to be written, and hides the
// doors. There is no file if the host has none that ours could lie on. What the host mounts later
// does not show.
func setMounts() (resolvers *os.File, err error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, at("part the mounts from the host's", &os.PathError{Op: "mount", Path: "/", Err: err})
	}
	// Symbolic links are resolved while what they point to can be seen.
	path, err := filepath.EvalSymlinks(resolvConf)
	switch {
	case err == nil:
		if resolvers, err = coverFile(path); err != nil {
			return nil, at("put another "+resolvConf+" in place", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, at("find "+resolvConf, err)
	}
	var hidden []string
	for _, door := range doors {
		real, err := filepath.EvalSymlinks(door)
		if err != nil || slices.Contains(hidden, real) {
			continue // not there
		}
		hidden = append(hidden, real)
		if err := hide(real, path, resolvers); err != nil {
			return nil, at("hide "+door, err)
		}
	}
	return resolvers, nil
}

// ofMemory are the flags of what is mounted here.
const ofMemory = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// folder mounts a small folder in memory on another one.
func folder(path string) error {
	err := unix.Mount("tmpfs", path, "tmpfs", ofMemory, "mode=0755,size=64k,nr_inodes=8")
	if err != nil {
		return &os.PathError{Op: "mount", Path: path, Err: err}
	}
	return nil
}

// coverFile lays a file in memory on another one, read-only but for who holds what is returned.
func coverFile(path string) (*os.File, error) {
	file, err := layFile(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|ofMemory, ""); err != nil {
		return nil, &os.PathError{Op: "remount", Path: path, Err: err}
	}
	return file, nil
}

func layFile(path string) (file *os.File, err error) {
	below, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(below)
	// Only for a moment the new folder lies on the old one: the file is what stays.
	dir := filepath.Dir(path)
	if err := folder(dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.NewSyscallError("umount", unix.Unmount(dir, unix.MNT_DETACH))) }()
	file, err = os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o444) //nolint:gosec // resolv.conf is for all
	if err != nil {
		return nil, err
	}
	return file, bind(path, fmt.Sprintf("/proc/self/fd/%d", below))
}

func bind(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return &os.PathError{Op: "bind", Path: to, Err: err}
	}
	return nil
}

// hide lays an empty folder on another one. If the file at path, which ours lies on, is in
// it (that of systemd-resolved is), ours is put there again.
func hide(door, path string, ours *os.File) error {
	inside := ours != nil && strings.HasPrefix(path, door+"/")
	var file int
	if inside {
		var err error
		if file, err = unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
			return &os.PathError{Op: "open", Path: path, Err: err}
		}
		defer unix.Close(file)
	}
	if err := folder(door); err != nil || !inside {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, nil, 0o400); err != nil {
		return err
	}
	return bind(fmt.Sprintf("/proc/self/fd/%d", file), path)
}

// writeResolvers makes these the resolvers. The new text is there before what is left of the old one
// goes: nobody reads an empty file, which would mean a resolver on this host.
func writeResolvers(file *os.File, resolvers []netip.Addr) error {
	var b strings.Builder
	b.WriteString("# By martlet, for what runs inside of the tunnel.\n")
	for _, r := range resolvers[:min(maxResolvers, len(resolvers))] {
		fmt.Fprintf(&b, "nameserver %v\n", r)
	}
	if len(resolvers) == 0 {
		b.WriteString("# The gateway gave no resolver.\n")
	}
	if _, err := file.WriteAt([]byte(b.String()), 0); err != nil {
		return at("write "+resolvConf, err)
	}
	return at("write "+resolvConf, file.Truncate(int64(b.Len())))
}
