package route

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const procSys = "/proc/sys/"

// readSysctl reads past package os, which would have the poller look at each file first.
func readSysctl(key string) (string, error) {
	fd, err := unix.Open(procSys+key, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: procSys + key, Err: err}
	}
	defer unix.Close(fd)
	b := make([]byte, 256) // those that are read here are numbers, and the name of a boot
	n, err := unix.Read(fd, b)
	if err != nil {
		return "", &fs.PathError{Op: "read", Path: procSys + key, Err: err}
	}
	return string(bytes.TrimSpace(b[:n])), nil
}

func writeSysctl(key, value string) error {
	f, err := os.OpenFile(procSys+key, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// boot is the kernel's own name for this run of it.
func boot() (string, error) {
	id, err := readSysctl("kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("route: %w", err)
	}
	return id, nil
}

func sameBoot(a, b string) bool { return a == b }

func namespace() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return 0, fmt.Errorf("route: network namespace: %w", err)
	}
	return st.Ino, nil
}

// sweep takes away what belongs to nobody: what no state file of a living Router has, under
// our protocol number. A Router that keeps its state in another folder is spared, if it has
// a route into its tunnel.
func sweep(alive, _ []Config, log *zap.Logger) error {
	marks := map[uint32]bool{} // of tunnels that are alive
	for _, c := range alive {
		marks[c.Mark] = true
	}
	var ours []netlink.Rule
	leftovers := map[int][]netlink.Route{} // by table: routes that lead to no interface
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := netlink.RuleList(family)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			continue
		}
		if err != nil {
			return fmt.Errorf("route: list rules: %w", err)
		}
		for _, rule := range rules {
			if rule.Protocol != Protocol {
				continue
			}
			rule.Family = family
			ours = append(ours, rule)
			if rule.Table == mainTable {
				continue
			}
			routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: rule.Table}, netlink.RT_FILTER_TABLE)
			if err != nil {
				return fmt.Errorf("route: list table %d: %w", rule.Table, err)
			}
			for _, r := range routes {
				if r.Type == unix.RTN_UNICAST {
					marks[rule.Mark] = true
				} else if r.Protocol == Protocol {
					leftovers[rule.Table] = append(leftovers[rule.Table], r)
				}
			}
		}
	}
	var failed []error
	for _, rule := range ours {
		if marks[rule.Mark] {
			continue
		}
		log.Info("removing a stray rule", zap.Int("priority", rule.Priority), zap.Int("table", rule.Table))
		if err := ignore(netlink.RuleDel(&rule), unix.ENOENT); err != nil {
			failed = append(failed, fmt.Errorf("route: remove rule %d: %w", rule.Priority, err))
		}
		for _, r := range leftovers[rule.Table] {
			if err := ignore(netlink.RouteDel(&r), unix.ESRCH, unix.ENOENT); err != nil {
				failed = append(failed, fmt.Errorf("route: remove %s of table %d: %w", r.Dst, rule.Table, err))
			}
		}
		delete(leftovers, rule.Table)
	}
	return errors.Join(failed...)
}
