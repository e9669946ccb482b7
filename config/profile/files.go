package profile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

const (
	// maxFiles bounds how many files a profile may have read, and maxOctets how large they are
	// together.
	maxFiles  = 256
	maxOctets = 8 << 20
	// maxIncludes bounds how deep included files may include others.
	maxIncludes = 8
)

// readers counts what is read for a profile.
type readers struct {
	files, octets int
	have          map[string][]byte
}

// errOutside is the error for a path that leads out of the profile's folder.
var errOutside = errors.New("it is outside of the profile's folder")

// inside turns a path of the profile into one of Options.Files. A relative path starts at the
// profile's folder.
func (d *draft) inside(name string) (string, error) {
	name = strings.TrimPrefix(name, "file://")
	if strings.ContainsRune(name, 0) || name == "" {
		return "", fs.ErrInvalid
	}
	name = filepath.ToSlash(name)
	if path.IsAbs(name) || filepath.IsAbs(name) {
		folder := strings.TrimSuffix(filepath.ToSlash(filepath.Clean(d.o.Folder)), "/")
		rest, ok := strings.CutPrefix(path.Clean(name), folder+"/")
		if d.o.Folder == "" || !ok {
			return "", errOutside
		}
		name = rest
	}
	if name = path.Clean(name); !fs.ValidPath(name) {
		return "", errOutside
	}
	return name, nil
}

// read reads a regular file of the profile's folder.
func (d *draft) read(name string) ([]byte, error) {
	name, err := d.inside(name)
	if err != nil {
		return nil, err
	}
	if d.o.Files == nil {
		return nil, fs.ErrNotExist
	}
	if data, ok := d.have[name]; ok {
		return data, nil
	}
	if d.readers.files++; d.readers.files > maxFiles {
		return nil, fmt.Errorf("the profile names more than %d files", maxFiles)
	}
	// A pipe or a device would be waited for.
	info, err := fs.Stat(d.o.Files, name)
	if err != nil {
		return nil, plainError(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := d.o.Files.Open(name)
	if err != nil {
		return nil, plainError(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, plainError(err)
	}
	if len(data) > maxSize {
		return nil, fmt.Errorf("it has more than %d octets", maxSize)
	}
	if d.octets += len(data); d.octets > maxOctets {
		return nil, fmt.Errorf("the files that the profile names have more than %d octets", maxOctets)
	}
	if d.have == nil {
		d.have = map[string][]byte{}
	}
	d.have[name] = data
	return data, nil
}

// glob lists the files of the profile's folder that fit a pattern, in order.
func (d *draft) glob(pattern string) ([]string, error) {
	pattern, err := d.inside(pattern)
	if err != nil {
		return nil, err
	}
	if d.o.Files == nil {
		return nil, nil
	}
	if strings.Count(pattern, "*") > 4 || len(pattern) > 1000 {
		return nil, errors.New("the pattern is too wide")
	}
	names, err := fs.Glob(d.o.Files, pattern)
	if err != nil {
		return nil, errors.New("the pattern is wrong")
	}
	slices.Sort(names)
	return names[:min(len(names), maxFiles+1)], nil
}

// list names the regular files of a folder of the profile's, with their paths.
func (d *draft) list(folder string) []string {
	folder, err := d.inside(folder)
	if err != nil || d.o.Files == nil {
		return nil
	}
	entries, err := fs.ReadDir(d.o.Files, folder)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if e.Type().IsRegular() && len(out) <= maxFiles {
			out = append(out, path.Join(folder, e.Name()))
		}
	}
	return out
}

// plainError says what is wrong with a file without its path, which the note has.
func plainError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("it does not exist")
	case errors.Is(err, fs.ErrPermission):
		return errors.New("it may not be read")
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	return errors.New(oneLine(err.Error()))
}
