package privsep

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// The ways in which a file is asked for.
const (
	toRead    = "read"
	toLook    = "look"
	toLookAt  = "look at the link"
	toResolve = "resolve"
)

// asked is a path and what is wanted of it.
type asked struct {
	How  string `json:"how"`
	Path string `json:"path"`
}

// Files reads the files of the parent's configuration, and remembers them: what the parent read by
// itself, the child may read in the same way. So it is the configuration that names them, as root wrote it, and never the
// child. Of a folder that was read it may read each file, and no link out of it.
type Files struct {
	mu      sync.Mutex
	seen    map[asked]bool
	inTurn  []asked // what was asked for until a child was started, which asks for the same
	started bool
}

func (f *Files) note(how, path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen == nil {
		f.seen = map[asked]bool{}
	}
	f.seen[asked{how, path}] = true
	if !f.started {
		f.inTurn = append(f.inTurn, asked{how, path})
	}
}

// told is an answer that a child has before it asks.
type told struct {
	Asked asked  `json:"asked"`
	Path  string `json:"path,omitempty"` // toResolve
	Fault *fault `json:"fault,omitempty"`
	File  bool   `json:"file,omitempty"` // the next of those that come along is it
}

// answers are to what was asked for until now, in turn, as far as one message takes them.
func (f *Files) answers() (out []told, files []*os.File) {
	f.mu.Lock()
	all := f.inTurn
	f.inTurn, f.started = nil, true
	f.mu.Unlock()
	for _, a := range all {
		if len(files) == maxFiles {
			break
		}
		file, path, err := f.get(a)
		if file != nil {
			files = append(files, file)
		}
		out = append(out, told{Asked: a, Path: path, Fault: faultOf(err), File: file != nil})
	}
	return out, files
}

// Open implements config.Files.
func (f *Files) Open(path string) (*os.File, error) {
	f.note(toRead, path)
	return os.Open(path)
}

// Stat implements config.Files.
func (f *Files) Stat(path string) (fs.FileInfo, error) {
	f.note(toLook, path)
	return os.Stat(path)
}

// Lstat implements config.Files.
func (f *Files) Lstat(path string) (fs.FileInfo, error) {
	f.note(toLookAt, path)
	return os.Lstat(path)
}

// EvalSymlinks implements config.Files.
func (f *Files) EvalSymlinks(path string) (string, error) {
	f.note(toResolve, path)
	return filepath.EvalSymlinks(path)
}

// get answers the child: by a file, or by a path.
func (f *Files) get(a asked) (*os.File, string, error) {
	f.mu.Lock()
	known, below := f.seen[a], f.seen[asked{toRead, filepath.Dir(a.Path)}]
	f.mu.Unlock()
	switch {
	case known && a.How == toResolve:
		path, err := filepath.EvalSymlinks(a.Path)
		return nil, path, err
	case known:
		file, err := openat2(unix.AT_FDCWD, a.Path, a.How, 0)
		return file, "", err
	case below && (a.How == toRead || a.How == toLook):
		file, err := openBelow(filepath.Dir(a.Path), filepath.Base(a.Path), a.How)
		return file, "", err
	}
	return nil, "", &fs.PathError{Op: "open", Path: a.Path, Err: unix.EACCES}
}

// openBelow opens a file of a folder. Links may not lead out of it.
func openBelow(folder, name, how string) (*os.File, error) {
	dir, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if info, err := dir.Stat(); err != nil || !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(folder, name), Err: unix.ENOTDIR}
	}
	return openat2(int(dir.Fd()), name, how, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_MAGICLINKS)
}

// openat2 opens a file to read it, or to look at it only. A pipe is not waited for.
func openat2(dir int, path, how string, resolve uint64) (*os.File, error) {
	flags := unix.O_CLOEXEC
	switch how {
	case toRead:
		flags |= unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	case toLook:
		flags |= unix.O_PATH
	case toLookAt:
		flags |= unix.O_PATH | unix.O_NOFOLLOW
	default:
		return nil, fmt.Errorf("privsep: files are not asked for in the way %q", how)
	}
	var fd int
	var err error
	if resolve == 0 {
		fd, err = unix.Openat(dir, path, flags, 0)
	} else {
		fd, err = unix.Openat2(dir, path, &unix.OpenHow{Flags: uint64(flags), Resolve: resolve})
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}
