package route

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	procSys     = "/proc/sys/"
	stateSuffix = ".route.json"
)

func readSysctl(key string) (string, error) {
	b, err := os.ReadFile(procSys + key)
	return string(bytes.TrimSpace(b)), err
}

func writeSysctl(key, value string) error {
	f, err := os.OpenFile(procSys+key, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// record is the content of a state file.
type record struct {
	Boot      string `json:"boot"`      // of the kernel: sysctls do not outlive it
	Namespace uint64 `json:"namespace"` // inode of the network namespace
	State     state  `json:"state"`
}

// stateFile is a file with a lock on it for as long as its Router lives: the
// kernel drops the lock when the process is killed. Each write makes a new file,
// locked before it takes the name, so that the name always stands for a whole
// and locked file.
type stateFile struct {
	path string
	boot string
	ns   uint64
	file *os.File
}

func createStateFile(dir, device string) (*stateFile, error) {
	boot, err := readSysctl("kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("route: %w", err)
	}
	ns, err := namespace()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("route: state folder: %w", err)
	}
	s := &stateFile{path: filepath.Join(dir, fmt.Sprintf("%s.%d%s", device, ns, stateSuffix)), boot: boot, ns: ns}
	if locked(s.path) {
		return nil, fmt.Errorf("route: %s is in use: another process has set up %s; end it first", s.path, device)
	}
	return s, nil
}

func (s *stateFile) write(st state) error {
	content, err := json.MarshalIndent(record{Boot: s.boot, Namespace: s.ns, State: st}, "", "  ")
	if err != nil {
		return fmt.Errorf("route: state file: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(s.path), ".route-*")
	if err != nil {
		return fmt.Errorf("route: state file: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		_, err = f.Write(append(content, '\n'))
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), s.path)
	}
	if err != nil {
		f.Close()
		os.Remove(f.Name())
		return fmt.Errorf("route: state file: %w", err)
	}
	if s.file != nil {
		s.file.Close()
	}
	s.file = f
	return nil
}

func (s *stateFile) remove() error {
	err := ignore(os.Remove(s.path), fs.ErrNotExist)
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
		s.file = nil
	}
	if err != nil {
		return fmt.Errorf("route: state file: %w", err)
	}
	return nil
}

func namespace() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return 0, fmt.Errorf("route: network namespace: %w", err)
	}
	return st.Ino, nil
}

func locked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
}

func readRecord(path string) (record, error) {
	var r record
	b, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// livingOthers are the settings of the Routers of this namespace that are alive,
// but for own.
func livingOthers(dir string, own *stateFile) ([]setting, error) {
	var out []setting
	for _, path := range stateFiles(dir) {
		if own != nil && path == own.path || !locked(path) {
			continue
		}
		r, err := readRecord(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("route: state file: %w", err)
		}
		if ns, err := namespace(); err == nil && ns == r.Namespace {
			out = append(out, r.State.Settings...)
		}
	}
	return out, nil
}

func stateFiles(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var out []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), stateSuffix) {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out
}

// Recover undoes what Routers with their state in stateDir set in this network
// namespace and could not undo, because they were killed: rules, routes,
// addresses and sysctls. Routers that are alive keep theirs. Call it before Open
// and New at the start of a program; log may be nil.
func Recover(stateDir string, log *zap.Logger) error {
	if log == nil {
		log = zap.NewNop()
	}
	ns, err := namespace()
	if err != nil {
		return err
	}
	boot, err := readSysctl("kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("route: %w", err)
	}
	var failed []error
	var alive []ruleEntry
	for _, path := range stateFiles(stateDir) {
		r, err := readRecord(path)
		if err != nil {
			if !locked(path) && !errors.Is(err, fs.ErrNotExist) {
				log.Warn("state file cannot be read, and goes", zap.String("file", path), zap.Error(err))
				failed = append(failed, os.Remove(path))
			}
			continue
		}
		if r.Namespace != ns {
			continue
		}
		if locked(path) {
			alive = append(alive, rules(r.State.Config, facts{V6: true})...)
			continue
		}
		if r.Boot == boot {
			others, err := livingOthers(stateDir, nil)
			if err != nil {
				return err
			}
			log.Info("undoing what a killed process left", zap.String("device", r.State.Config.Device))
			ops, _ := plan(r.State, Config{}, gather(r.State.Config.Device, others))
			if err := carryOut(ops, log); err != nil {
				failed = append(failed, err)
				continue
			}
		}
		failed = append(failed, os.Remove(path))
	}
	failed = append(failed, removeStrayRules(alive, log))
	return errors.Join(failed...)
}

// removeStrayRules takes away rules with our protocol number that belong to
// nobody: no state file of a living Router has them, and the table they lead to
// is empty, since its routes went with the interface. The latter spares a Router
// that keeps its state in another folder.
func removeStrayRules(alive []ruleEntry, log *zap.Logger) error {
	var failed []error
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := netlink.RuleList(family)
		if err != nil {
			if !errors.Is(err, unix.EAFNOSUPPORT) {
				failed = append(failed, fmt.Errorf("route: list rules: %w", err))
			}
			continue
		}
		rules = slices.DeleteFunc(rules, func(r netlink.Rule) bool { return r.Protocol != Protocol })
		marks := map[uint32]bool{} // of tunnels that are alive
		for _, a := range alive {
			marks[a.mark] = true
		}
		for _, rule := range rules {
			if rule.Table != mainTable && !tableEmpty(family, rule.Table) {
				marks[rule.Mark] = true
			}
		}
		for _, rule := range rules {
			if marks[rule.Mark] {
				continue
			}
			log.Info("removing a stray rule", zap.Int("priority", rule.Priority), zap.Int("table", rule.Table))
			rule.Family = family
			if err := ignore(netlink.RuleDel(&rule), unix.ENOENT); err != nil {
				failed = append(failed, fmt.Errorf("route: remove rule %d: %w", rule.Priority, err))
			}
		}
	}
	return errors.Join(failed...)
}

func tableEmpty(family, table int) bool {
	routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
	return err == nil && len(routes) == 0
}
