package route

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.uber.org/zap"
)

const stateSuffix = ".route.json"

// record is the content of a state file.
type record struct {
	Boot      string `json:"boot"`      // of the kernel: what was set does not outlive it
	Namespace uint64 `json:"namespace"` // inode of the network namespace; 0 where there are none
	State     state  `json:"state"`
}

// describe is the content of the state file for a state.
func (s *stateFile) describe(st state) ([]byte, error) {
	content, err := json.MarshalIndent(record{Boot: s.boot, Namespace: s.ns, State: st}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("route: state file: %w", err)
	}
	return append(content, '\n'), nil
}

// newStateFile takes the name for a device, in a folder that it makes.
func newStateFile(dir, device string) (*stateFile, error) {
	boot, err := boot()
	if err != nil {
		return nil, err
	}
	ns, err := namespace()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("route: state folder: %w", err)
	}
	return &stateFile{path: filepath.Join(dir, fmt.Sprintf("%s.%d%s", device, ns, stateSuffix)), boot: boot, ns: ns}, nil
}

func inUse(path, device string) error {
	return fmt.Errorf("route: %s is in use: another process has set up %s; end it first", path, device)
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

// Recover undoes what Routers with their state in stateDir set, in this network
// namespace where there are some, and could not undo, because they were killed. Routers that
// are alive keep theirs. Call it before Open and New at the start of a program; log may be
// nil.
func Recover(stateDir string, log *zap.Logger) error {
	if log == nil {
		log = zap.NewNop()
	}
	ns, err := namespace()
	if err != nil {
		return err
	}
	now, err := boot()
	if err != nil {
		return err
	}
	var failed []error
	var alive, dead []Config
	for _, path := range stateFiles(stateDir) {
		r, err := readRecord(path)
		if err != nil {
			if !locked(path) && !errors.Is(err, fs.ErrNotExist) {
				log.Warn("state file cannot be read, and goes", zap.String("file", path), zap.Error(err))
				failed = append(failed, forget(path))
			}
			continue
		}
		if r.Namespace != ns {
			continue
		}
		if locked(path) {
			alive = append(alive, r.State.Config)
			continue
		}
		if sameBoot(r.Boot, now) {
			others, err := livingOthers(stateDir, nil)
			if err != nil {
				return err
			}
			log.Info("undoing what a killed process left", zap.String("device", r.State.Config.Device))
			_, carryOut, err := prepare(r.State, Config{}, others)
			if err == nil {
				err = carryOut(log)
			}
			if err != nil {
				failed = append(failed, err)
				continue
			}
			dead = append(dead, r.State.Config)
		}
		failed = append(failed, forget(path))
	}
	failed = append(failed, sweep(alive, dead, log))
	return errors.Join(failed...)
}
