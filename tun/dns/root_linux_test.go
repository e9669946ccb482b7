package dns

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What a process of this test program is, by a word in its environment.
const (
	roleVariable = "MARTLET_DNS_ROLE"
	roleInRoot   = "in a root of its own"
	roleSetter   = "setter"

	rootVariable = "MARTLET_DNS_ROOT" // folder to make the root in
	debsVariable = "MARTLET_DNS_DEBS"
)

// rootTime is how long the tests in a root of their own may take, which is some seconds: what they
// wait for may never come.
const rootTime = 2 * time.Minute

// TestMain is also what the tests run as processes of their own.
func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == roleSetter {
		setter()
		return
	}
	os.Exit(m.Run())
}

// inRoot runs f in a process of its own whose host is one of its own too: it has no link but lo, sees
// no other process, and its files are those of this machine, with the packages unpacked over them,
// in memory. What f starts ends with it. The machine's own resolvers must be left as they are.
func inRoot(t *testing.T, packages []string, f func(t *testing.T)) {
	t.Helper()
	if os.Getenv(roleVariable) == roleInRoot {
		enterRoot(t)
		f(t)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("no namespaces without root")
	}
	files := debs(t, packages...)
	before, err := readFormer("/etc/resolv.conf")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout="+rootTime.String())
	cmd.Env = []string{
		roleVariable + "=" + roleInRoot,
		rootVariable + "=" + t.TempDir(),
		debsVariable + "=" + strings.Join(files, "\n"),
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TMPDIR=/tmp", "LC_ALL=C",
	}
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL, // by the end of the thread that started it
	}
	runtime.LockOSThread()
	err = cmd.Run()
	runtime.UnlockOSThread()
	switch {
	case errors.Is(err, unix.EPERM):
		t.Skip("no namespaces: ", err)
	case err != nil:
		t.Errorf("%v\n%s", err, &out)
	default:
		t.Logf("%s", &out)
	}
	after, err := readFormer("/etc/resolv.conf")
	if err != nil || after != before {
		t.Errorf("/etc/resolv.conf of this machine: %+v became %+v, %v", before, after, err)
	}
}

// enterRoot makes the root and goes there.
func enterRoot(t *testing.T) {
	t.Helper()
	dir := os.Getenv(rootVariable)
	root := filepath.Join(dir, "root")
	mount := func(source, target, kind string, flags uintptr, options string) {
		t.Helper()
		if err := unix.Mount(source, target, kind, flags, options); err != nil {
			t.Fatalf("mount %s as %s: %v", kind, target, err)
		}
	}
	mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	mount("tmpfs", dir, "tmpfs", 0, "")
	for _, folder := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount("overlay", root, "overlay", 0, fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", dir, dir))
	for deb := range strings.Lines(os.Getenv(debsVariable)) {
		unpack(t, strings.TrimSpace(deb), root)
	}
	mount("proc", filepath.Join(root, "proc"), "proc", 0, "")
	// NetworkManager takes a /sys that it cannot write as the sign that no udev runs.
	mount("sysfs", filepath.Join(root, "sys"), "sysfs", unix.MS_RDONLY, "")
	mount("/dev", filepath.Join(root, "dev"), "", unix.MS_BIND|unix.MS_REC, "")
	mount("tmpfs", filepath.Join(root, "run"), "tmpfs", 0, "")
	mount("tmpfs", filepath.Join(root, "tmp"), "tmpfs", 0, "mode=1777")
	if err := unix.PivotRoot(root, filepath.Join(root, "tmp")); err != nil {
		t.Fatal("pivot_root: ", err)
	}
	if err := errors.Join(unix.Chdir("/"), unix.Unmount("/tmp", unix.MNT_DETACH)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/hosts"} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	put(t, "/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
	put(t, "/etc/hosts", "127.0.0.1 localhost\n")
	addUsers(t, "messagebus", "systemd-resolve", "dnsmasq")
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// addUsers does what the scripts of packages would. It comes before the bus reads its policies.
func addUsers(t *testing.T, names ...string) {
	t.Helper()
	users, groups := get(t, "/etc/passwd"), get(t, "/etc/group")
	for i, name := range names {
		if id := 60001 + i; !strings.Contains("\n"+users, "\n"+name+":") {
			users += fmt.Sprintf("%s:x:%d:%d::/:/usr/sbin/nologin\n", name, id, id)
			groups += fmt.Sprintf("%s:x:%d:\n", name, id)
		}
	}
	put(t, "/etc/passwd", users)
	put(t, "/etc/group", groups)
}

// daemon is a program that runs until the end of the test, or until it is killed.
type daemon struct {
	cmd  *exec.Cmd
	log  string // file
	done chan struct{}
}

// start runs a program and waits until it is ready.
func start(t *testing.T, ready func() bool, args ...string) *daemon {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), filepath.Base(args[0])+"-*")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	d := &daemon{exec.Command(args[0], args[1:]...), log.Name(), make(chan struct{})}
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = d.cmd.Wait() // how it ended stands in what it said
		close(d.done)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s said:\n%s", args[0], get(t, d.log))
		}
	})
	until(func() bool {
		select {
		case <-d.done:
			t.Fatalf("%s ended:\n%s", args[0], get(t, d.log))
		default:
		}
		return ready()
	})
	return d
}

// kill ends it as by kill -9.
func (d *daemon) kill(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-d.done
}

// execute runs a program that must succeed, and returns what it says.
func execute(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
