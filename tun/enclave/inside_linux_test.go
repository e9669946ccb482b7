package enclave_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"martlet/tun/enclave"
)

// TestMain is also the helper, and, by the word in the environment, what the tests run as
// processes of their own.
func TestMain(m *testing.M) {
	enclave.Help(os.Args)
	switch os.Getenv(roleVariable) {
	case "inside":
		inside()
	case "owner":
		own()
	case "forbidden":
		forbidden()
	case "elsewhere":
		elsewhere()
	default:
		os.Exit(m.Run())
	}
}

const roleVariable = "MARTLET_ENCLAVE_ROLE"

// report is what a program sees inside.
type report struct {
	Error string // of what was tried

	UID, GID, PPID, Group int
	Status                map[string]string // of /proc/self/status
	Descriptors           map[string]string
	Interfaces            []string
	Addresses             []string
	Routes                []string
	ResolvConf            string
	Doors                 []string // what is in the folders that are to be empty
	Environment           []string
	Answer                string
}

// inside answers each line of its input with a report, after it has done what the line says.
func inside() {
	descriptors := openDescriptors() // before anything is opened here
	lines, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		r := report{Descriptors: descriptors}
		var err error
		switch words[0] {
		case "look":
			err = r.look()
		case "exit":
			os.Exit(len(words[1]))
		case "dial": // NETWORK ADDRESS
			var conn net.Conn
			if conn, err = net.Dial(words[1], words[2]); err == nil {
				conn.Close()
			}
		case "echo": // ADDRESS TEXT
			r.Answer, err = echo(words[1], words[2])
		case "ping":
			_, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP)
		case "open":
			_, err = os.Open(words[1])
		case "write":
			err = os.WriteFile(words[1], []byte("mine"), 0)
		case "unmount":
			err = unix.Unmount(words[1], 0)
		case "linger": // until SIGTERM, which is answered
			told := make(chan os.Signal, 1)
			signal.Notify(told, syscall.SIGTERM)
			_ = out.Encode(r)
			<-told
			fmt.Println("terminated")
			os.Exit(3)
		case "resist": // for ever
			signal.Ignore(syscall.SIGTERM)
			_ = out.Encode(r)
			select {}
		}
		if err != nil {
			r.Error = err.Error()
		}
		if err := out.Encode(r); err != nil {
			panic(err)
		}
	}
}

// openDescriptors are those above the standard streams, by number, and what they are.
func openDescriptors() map[string]string {
	out := map[string]string{}
	for fd := 3; fd < 1024; fd++ {
		link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		ofGo := strings.HasPrefix(link, "anon_inode:[event") || strings.HasPrefix(link, "/sys/fs/cgroup/")
		if err == nil && !ofGo {
			out[fmt.Sprint(fd)] = link
		}
	}
	return out
}

func (r *report) look() error {
	r.UID, r.GID, r.PPID, r.Group = os.Getuid(), os.Getgid(), os.Getppid(), syscall.Getpgrp()
	r.Environment = os.Environ()
	status, err := os.ReadFile("/proc/thread-self/status")
	r.Status = map[string]string{}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		r.Status[key] = strings.TrimSpace(value)
	}
	links, linksErr := netlink.LinkList()
	for _, l := range links {
		r.Interfaces = append(r.Interfaces, l.Attrs().Name)
		addresses, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		linksErr = errors.Join(linksErr, err)
		for _, a := range addresses {
			if l.Attrs().Name != "lo" {
				r.Addresses = append(r.Addresses, a.IPNet.String())
			}
		}
		routes, err := netlink.RouteList(l, netlink.FAMILY_ALL)
		linksErr = errors.Join(linksErr, err)
		for _, route := range routes {
			if route.Dst != nil && l.Attrs().Name != "lo" {
				r.Routes = append(r.Routes, route.Dst.String())
			}
		}
	}
	slices.Sort(r.Addresses)
	slices.Sort(r.Routes)
	text, resolvErr := os.ReadFile("/etc/resolv.conf")
	r.ResolvConf = string(text)
	for _, door := range []string{"/run/dbus", "/run/nscd", "/run/systemd/resolve", "/run/avahi-daemon"} {
		entries, _ := os.ReadDir(door)
		for _, e := range entries {
			r.Doors = append(r.Doors, door+"/"+e.Name())
		}
	}
	return errors.Join(err, linksErr, resolvErr)
}

// echo sends a datagram and returns what comes back.
func echo(address, text string) (string, error) {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(text)); err != nil {
		return "", err
	}
	buf := make([]byte, 100)
	n, err := conn.Read(buf)
	return string(buf[:n]), err
}

// own has an enclave with a program for the orders of our input.
func own() {
	e, err := enclave.Open(enclave.Options{
		Device: "tunnel", MTU: 1400, Queues: 1, Args: []string{"/proc/self/exe"}, Env: role("inside"),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	})
	if err == nil {
		for _, limit := range e.Limits() {
			fmt.Fprintln(os.Stderr, limit)
		}
		err = errors.Join(e.Set(enclave.Network{Addresses: addrs("10.77.0.2"), Resolvers: addrs("10.77.0.53")}), e.Start())
	}
	if err != nil {
		tell(err)
	}
	status, err := e.Wait()
	if err = errors.Join(err, e.Close()); err != nil {
		tell(err)
	}
	os.Exit(status)
}

// tell prints an error with all that it says, and ends.
func tell(err error) {
	e, ok := errors.AsType[*enclave.Error](err)
	if !ok {
		e = &enclave.Error{Step: fmt.Sprint(err)}
	}
	fmt.Println(e.Step, "|", e.Why, "|", e.Hint)
	os.Exit(0)
}

// elsewhere is root of mounts of its own. It makes them as the word in the environment says, and
// has nobody own an enclave there.
func elsewhere() {
	memory := func(path string) error { return unix.Mount("tmpfs", path, "tmpfs", 0, "mode=0755") }
	err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), memory("/run"))
	for _, service := range []string{"systemd/resolve", "nscd", "dbus", "avahi-daemon"} {
		err = errors.Join(err, os.MkdirAll("/run/"+service, 0o755), os.WriteFile("/run/"+service+"/socket", nil, 0o600))
	}
	switch os.Getenv(whereVariable) {
	case "systemd-resolved":
		stub := "/run/systemd/resolve/stub-resolv.conf"
		err = errors.Join(err, memory("/etc"), os.WriteFile(stub, []byte("nameserver 127.0.0.53\n"), 0o600), os.Symlink("../"+stub, "/etc/resolv.conf"))
	case "no resolv.conf":
		err = errors.Join(err, memory("/etc"))
	case "tun of root":
		err = errors.Join(err, memory("/dev/net"), unix.Mknod("/dev/net/tun", unix.S_IFCHR|0o600, int(unix.Mkdev(10, 200))))
	case "no tun":
		err = errors.Join(err, memory("/dev/net"))
	}
	if err != nil {
		tell(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Dir, cmd.Env = "/", role("owner")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if err := cmd.Run(); err != nil {
		tell(err)
	}
	os.Exit(0)
}

const whereVariable = "MARTLET_ENCLAVE_WHERE"

// forbidden is root of a user namespace, forbids more of them and then wants one.
func forbidden() {
	err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0)
	if err == nil {
		_, err = enclave.Open(enclave.Options{Device: "tunnel", MTU: 1400, Queues: 1, Args: []string{"true"}})
	}
	tell(err)
}

func role(name string) []string { return append(os.Environ(), roleVariable+"="+name) }

func addrs(text ...string) (out []netip.Addr) {
	for _, a := range text {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}
