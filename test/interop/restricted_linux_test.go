package interop

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// nobody is the user and group of a container: those of the image.
const nobody = 65534

// image is the root file system, built once as the image has it, with the folders on which a
// runtime mounts what it gives to a container.
var image = sync.OnceValues(func() (string, error) {
	root := filepath.Join(shared.dir, "image")
	script := exec.Command("../../cmd/martlet/dist/rootfs", root, "interop")
	script.Env = append(os.Environ(), "GOFLAGS=-pgo=off") // all packages would be compiled anew
	if b, err := script.CombinedOutput(); err != nil {
		return "", fmt.Errorf("rootfs: %w\n%s", err, b)
	}
	for _, dir := range []string{"proc", "dev", "run/martlet", "run/secrets/office"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return "", err
		}
	}
	return root, os.WriteFile(filepath.Join(root, "etc/resolv.conf"), nil, 0o600) // what is mounted on it counts
})

// cell is what a program gets that runs in a container with the rights that Pod Security
// "restricted" leaves: the image's root file system, read only; process, IPC and host name
// spaces of its own; no device but the three harmless ones; nobody's rights, no capability,
// and the system calls that container runtimes leave by default.
type cell struct {
	Root    string            // the image
	Volumes map[string]string // what is mounted, read only, by where
	Env     []string          // whole
	Args    []string          // the program first; with none the walls are tried
	Join    bool              // the container is there, with its process 1
}

// cellVariable has a cell for the test program, which then becomes the program inside.
const cellVariable = "MARTLET_TEST_CELL"

// confine turns this process, which the test program started of itself, into the program in
// the cell that the environment tells. It returns only where there is none.
func confine() {
	order, ok := os.LookupEnv(cellVariable)
	if !ok {
		return
	}
	runtime.LockOSThread() // rights are those of a thread, and of the program that it becomes
	var c cell
	err := json.Unmarshal([]byte(order), &c)
	if err == nil && !c.Join {
		err = c.build()
	} else if err == nil {
		err = c.join()
	}
	if err == nil {
		err = drop()
	}
	if err == nil && len(c.Args) == 0 {
		tryWalls()
		os.Exit(0)
	}
	if err == nil {
		err = syscall.Exec(c.Args[0], c.Args, c.Env)
	}
	fmt.Fprintln(os.Stderr, "container:", err)
	os.Exit(125)
}

// build makes the file systems and goes in. The name spaces are there already.
func (c *cell) build() error {
	mount := func(source, target, kind string, flags uintptr, data string) error {
		if err := unix.Mount(source, filepath.Join(c.Root, target), kind, flags, data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", source, target, err)
		}
		return nil
	}
	bind := func(source, target string, flags uintptr) error {
		return errors.Join(mount(source, target, "", unix.MS_BIND, ""), mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|flags, ""))
	}
	const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	err := errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		bind(c.Root, "", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV),
		mount("proc", "proc", "proc", safe, ""),
		mount("tmpfs", "dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755,size=64k"),
		mount("tmpfs", "run/martlet", "tmpfs", safe, fmt.Sprintf("mode=700,uid=%d,gid=%[1]d,size=1m", nobody)),
	)
	for _, device := range []string{"/dev/null", "/dev/zero", "/dev/urandom"} {
		err = errors.Join(err, os.WriteFile(filepath.Join(c.Root, device), nil, 0o600), mount(device, device, "", unix.MS_BIND, ""))
	}
	err = errors.Join(err, mount("", "dev", "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NOEXEC, ""))
	for target, source := range c.Volumes {
		err = errors.Join(err, bind(source, target, unix.MS_RDONLY|safe))
	}
	if err != nil {
		return err
	}
	return errors.Join(
		unix.Sethostname([]byte("pod")),
		unix.Chdir(c.Root),
		unix.PivotRoot(".", "."), // the old root is on top of the new one
		unix.Unmount(".", unix.MNT_DETACH),
		unix.Chdir("/"),
	)
}

// join enters the container of process 1, as the probes of Kubernetes do. The test started us in its
// process and network name spaces.
func (c *cell) join() error {
	pid, err := unix.PidfdOpen(1, 0)
	if err != nil {
		return err
	}
	return errors.Join(
		unix.Unshare(unix.CLONE_FS), // else the mounts are those of all threads
		unix.Setns(pid, unix.CLONE_NEWNS|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS),
		unix.Close(pid),
	)
}

// drop gives up all rights for good, those to get any back included.
func drop() error {
	last, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return err
	}
	var highest uintptr
	if _, err := fmt.Sscan(string(last), &highest); err != nil {
		return err
	}
	for c := range highest + 1 {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return fmt.Errorf("bounding set: %w", err)
		}
	}
	const descriptors = 1024
	limit := syscall.Rlimit{Cur: descriptors, Max: descriptors}
	none := [2]unix.CapUserData{}
	err = errors.Join(
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit), // unix.Setrlimit would be undone by Exec
		unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0),
		unix.Setgroups(nil),
		unix.Setresgid(nobody, nobody, nobody),
		unix.Setresuid(nobody, nobody, nobody),
		unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]),
	)
	if err != nil {
		return err
	}
	return filterCalls()
}

// container runs programs in a network namespace with the rights of a cell.
type container struct {
	ns   *namespace
	cell cell
	main *process
}

// newContainer makes one; volumes are what is mounted, by where.
func newContainer(ns *namespace, volumes map[string]string, env ...string) *container {
	ns.t.Helper()
	root, err := image()
	if err != nil {
		ns.t.Fatal(err)
	}
	return &container{ns: ns, cell: cell{Root: root, Volumes: volumes, Env: env}}
}

// start starts the container's program, which is its process 1.
func (c *container) start(args ...string) *process {
	c.ns.t.Helper()
	cmd := c.command(c.cell, args)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
	}
	c.main = c.ns.watch(strings.Join(args, " "), cmd, func() error { return c.ns.inside(cmd.Start) })
	return c.main
}

// exec runs another program in the container to its end, and returns its exit status and what
// it said.
func (c *container) exec(args ...string) (int, string) {
	c.ns.t.Helper()
	inside := c.cell
	inside.Join = true
	cmd := c.command(inside, args)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := c.ns.inside(func() error {
		pid, err := unix.PidfdOpen(c.main.cmd.Process.Pid, 0)
		if err != nil {
			return err
		}
		// The thread's children are in that process name space, and it is not used again.
		return errors.Join(unix.Setns(pid, unix.CLONE_NEWPID), unix.Close(pid), cmd.Start())
	})
	if err == nil {
		err = cmd.Wait()
	}
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		c.ns.t.Errorf("%q in the container: %v", args, err)
		return -1, err.Error()
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// command is this test program once more, to become a program in a cell.
func (c *container) command(inside cell, args []string) *exec.Cmd {
	c.ns.t.Helper()
	inside.Args = args
	order, err := json.Marshal(inside)
	if err != nil {
		c.ns.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		c.ns.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = []string{cellVariable + "=" + string(order)}
	return cmd
}

// inside calls f on a thread that is in the namespace, and is not used again.
func (ns *namespace) inside(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		err := enter(ns.name)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// secretVolume makes a folder with files as Kubernetes mounts a Secret with an fsGroup.
func secretVolume(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	const version = "..2026_01_01"
	err := errors.Join(
		os.Mkdir(filepath.Join(dir, version), 0o755),
		os.Symlink(version, filepath.Join(dir, "..data")),
	)
	for name, text := range files {
		path := filepath.Join(dir, version, name)
		err = errors.Join(err, os.WriteFile(path, []byte(text), 0o440), //nolint:gosec // so Kubernetes writes it
			os.Chown(path, 0, nobody), os.Symlink("..data/"+name, filepath.Join(dir, name)))
	}
	if err = errors.Join(err, os.Chmod(dir, 0o777|os.ModeSticky|os.ModeSetgid)); err != nil {
		t.Fatal(err)
	}
	return dir
}
