//go:build unix

package route

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"martlet/tun/platform"
)

// stateFile is a file with a lock on it for as long as its Router lives: the
// kernel drops the lock when the process is killed. Each write makes a new file,
// locked before it takes the name, so that the name always stands for a whole
// and locked file. It need not reach the disk: what it tells of does not outlive the
// kernel, and what the kernel has taken outlives the process.
type stateFile struct {
	path    string
	boot    string
	ns      uint64
	file    *os.File
	content []byte // of the file
}

func createStateFile(dir, device string) (*stateFile, error) {
	s, err := newStateFile(dir, device)
	if err == nil && locked(s.path) {
		err = inUse(s.path, device)
	}
	return s, err
}

func (s *stateFile) write(st state) error {
	content, err := s.describe(st)
	if err != nil {
		return err
	}
	if s.file != nil && bytes.Equal(content, s.content) {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(s.path), ".route-*")
	if err != nil {
		return fmt.Errorf("route: state file: %w", err)
	}
	err = platform.Lock(f)
	if err == nil {
		_, err = f.Write(content)
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
	s.file, s.content = f, content
	return nil
}

func (s *stateFile) remove() error {
	err := ignore(forget(s.path), fs.ErrNotExist)
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
		s.file = nil
	}
	if err != nil {
		return fmt.Errorf("route: state file: %w", err)
	}
	return nil
}

func locked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(platform.Lock(f), platform.ErrLocked)
}

// forget removes the state file of a Router that is not alive.
func forget(path string) error { return os.Remove(path) }
