package interop

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// wall is something that a container may not do, and how it is refused.
type wall struct {
	name string
	want error
	try  func() error
}

// calling makes a system call.
func calling(number uintptr, args ...uintptr) func() error {
	return func() error {
		var a [6]uintptr
		copy(a[:], args)
		if _, _, e := syscall.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); e != 0 {
			return e
		}
		return nil
	}
}

// walls would be refused otherwise, or not at all, without the cell: with wrong arguments, for instance.
var walls = []wall{
	{"open /dev/net/tun", unix.ENOENT, opening("/dev/net/tun", unix.O_RDWR)},
	{"write to the root", unix.EROFS, opening("/file", unix.O_CREAT|unix.O_WRONLY)},
	{"write to /etc", unix.EACCES, opening("/etc/passwd", unix.O_WRONLY)},
	{"write to a secret", unix.EROFS, opening("/run/secrets/office/file", unix.O_CREAT|unix.O_WRONLY)},
	{"make a device", unix.EPERM, func() error { return unix.Mknod("/run/martlet/device", unix.S_IFCHR|0o600, 1<<8|3) }},
	{"mount", unix.EPERM, func() error { return unix.Mount("tmpfs", "/run/martlet", "tmpfs", 0, "") }},
	{"become root", unix.EPERM, calling(unix.SYS_SETUID, 0)},
	{"open a raw socket", unix.EPERM, func() error {
		_, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP)
		return err
	}},
	{"unshare", unix.EPERM, calling(unix.SYS_UNSHARE, unix.CLONE_NEWUSER)},
	{"clone into a name space", unix.EPERM, calling(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD))},
	{"clone3", unix.ENOSYS, calling(unix.SYS_CLONE3, 0, 0)},
	{"setns", unix.EPERM, calling(unix.SYS_SETNS, ^uintptr(0), 0)},
	{"io_uring_setup", unix.EPERM, calling(unix.SYS_IO_URING_SETUP, 1, 0)},
	{"bpf", unix.EPERM, calling(unix.SYS_BPF, 0, 0, 0)},
	{"perf_event_open", unix.EPERM, calling(unix.SYS_PERF_EVENT_OPEN, 0)},
	{"keyctl", unix.EPERM, calling(unix.SYS_KEYCTL, 0)},
	{"add_key", unix.EPERM, calling(unix.SYS_ADD_KEY, 0)},
	{"userfaultfd", unix.EPERM, calling(unix.SYS_USERFAULTFD, ^uintptr(0))},
	{"kexec_load", unix.EPERM, calling(unix.SYS_KEXEC_LOAD, 0)},
}

func opening(path string, flags int) func() error {
	return func() error {
		_, err := unix.Open(path, flags, 0o600)
		return err
	}
}

// tryWalls runs in the cell, and says how each was refused.
func tryWalls() {
	for _, w := range walls {
		fmt.Printf("%s: %v\n", w.name, w.try())
	}
	// With the same rights a harmless call is allowed.
	var name unix.Utsname
	fmt.Printf("uname: %v %s\n", unix.Uname(&name), unsafe.String(&name.Nodename[0], len("pod")))
}

// TestRestrictedContainer: the container of these tests has walls, and what needs no privilege runs inside.
func TestRestrictedContainer(t *testing.T) {
	start(t)
	ns := newNamespace(t, "pod")
	c := newContainer(ns, map[string]string{"run/secrets/office": secretVolume(t, nil)})
	p := c.start()
	if status := p.wait(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	for _, w := range walls {
		if want := fmt.Sprintf("%s: %v\n", w.name, w.want); !strings.Contains(p.out.String(), want) {
			t.Errorf("no %q", want)
		}
	}
	if !strings.Contains(p.out.String(), "uname: <nil> pod\n") {
		t.Error("uname does not say pod")
	}
	if t.Failed() {
		t.Log(p.out.String())
	}
	for _, args := range [][]string{{"/martlet", "version"}, {"/martlet", "demo", "--size", "4MiB"}} {
		if p := c.start(args...); p.wait() != 0 {
			t.Errorf("%q ended with %d:\n%s", args, p.wait(), p.out.String())
		}
	}
}

// restricted fails the test unless the running program has the rights of a cell and no more, as the
// kernel tells.
func (c *container) restricted(t *testing.T) {
	t.Helper()
	proc := func(name string) string {
		return readFile(t, fmt.Sprintf("/proc/%d/%s", c.main.cmd.Process.Pid, name))
	}
	status := proc("status")
	for name, want := range map[string]string{
		"Name": "martlet", "NSpid": fmt.Sprintf("%d\t1", c.main.cmd.Process.Pid),
		"Uid": "65534\t65534\t65534\t65534", "Gid": "65534\t65534\t65534\t65534", "Groups": "",
		"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000",
		"CapBnd": "0000000000000000", "CapAmb": "0000000000000000",
		"NoNewPrivs": "1", "Seccomp": "2",
	} {
		match := regexp.MustCompile(`(?m)^` + name + `:[ \t]*(.*?)[ \t]*$`).FindStringSubmatch(status)
		if match == nil || match[1] != want {
			t.Errorf("%s is %q, want %q", name, match, want)
		}
	}
	if limits := proc("limits"); !regexp.MustCompile(`Max open files +1024 +1024 `).MatchString(limits) {
		t.Errorf("limits:\n%s", limits)
	}
	mounts := map[string]string{}
	for line := range strings.Lines(proc("mountinfo")) {
		fields := strings.Fields(line)
		mounts[fields[4]] = fields[5]
	}
	for target, options := range mounts {
		set := strings.Split(options, ",")
		switch target {
		case "/proc", "/run/martlet", "/dev/null", "/dev/zero", "/dev/urandom":
		case "/", "/dev", "/etc/resolv.conf", "/run/secrets/office":
			if !slices.Contains(set, "ro") || !slices.Contains(set, "nosuid") {
				t.Errorf("%s is mounted %s", target, options)
			}
		default:
			t.Errorf("%s is mounted, and should not be", target)
		}
	}
	if _, mounted := mounts["/"]; !mounted {
		t.Error("nothing is mounted on /")
	}
	root := fmt.Sprintf("/proc/%d/root", c.main.cmd.Process.Pid)
	entries, err := os.ReadDir(root + "/dev")
	if err != nil {
		t.Fatal(err)
	}
	var devices []string
	for _, e := range entries {
		devices = append(devices, e.Name())
	}
	if got := strings.Join(devices, " "); got != "null urandom zero" {
		t.Errorf("devices are %s", got)
	}
	c.noDevice(t)
}

// noDevice fails the test if there is any network interface but the pod's own two, TUN devices included.
func (c *container) noDevice(t *testing.T) {
	t.Helper()
	var links []string
	for line := range strings.Lines(c.ns.ip("-o -br link")) {
		name, _, _ := strings.Cut(strings.Fields(line)[0], "@")
		links = append(links, name)
	}
	slices.Sort(links)
	if got := strings.Join(links, " "); got != "eth0 lo" {
		t.Errorf("network interfaces are %s", got)
	}
}
