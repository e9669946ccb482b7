package config

import (
	"io/fs"
	"os"
	"path/filepath"
)

// Files is how the files are read that a configuration names: by who has the right to. Its methods
// are as those of packages os and path/filepath. A path is the same one in each Load, as long as
// the configuration names the same file.
type Files interface {
	Open(path string) (*os.File, error)
	Stat(path string) (fs.FileInfo, error)
	Lstat(path string) (fs.FileInfo, error)
	EvalSymlinks(path string) (string, error)
}

// OwnFiles are what this process may read by itself.
type OwnFiles struct{}

// Open opens a file for reading.
func (OwnFiles) Open(path string) (*os.File, error) { return os.Open(path) }

// Stat follows links.
func (OwnFiles) Stat(path string) (fs.FileInfo, error) { return os.Stat(path) }

// Lstat does not.
func (OwnFiles) Lstat(path string) (fs.FileInfo, error) { return os.Lstat(path) }

// EvalSymlinks returns the path without links.
func (OwnFiles) EvalSymlinks(path string) (string, error) { return filepath.EvalSymlinks(path) }

// Files is how the files of this configuration are read again.
func (c *Config) Files() Files { return c.origin.reader() }

// reader never is nil.
func (o *origin) reader() fileReader {
	if o == nil || o.files == nil {
		return fileReader{OwnFiles{}}
	}
	return fileReader{o.files}
}

// fileReader reads files of a configuration.
type fileReader struct{ Files }
