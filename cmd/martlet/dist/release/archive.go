package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// archive is a tar or zip file that is written.
type archive interface {
	add(name string, mode fs.FileMode, octets []byte) error
	close() error
}

// pack writes the files, in the order of their names, below one folder: owner 0, modes 755 and
// 644, and all of one time.
func (r *release) pack(to, folder string, t target, files []file) error {
	files = slices.SortedFunc(slices.Values(files), func(a, b file) int { return cmp.Compare(a.name, b.name) })
	var b bytes.Buffer
	var a archive
	if t.os == "windows" {
		to += ".zip"
		a = &zipArchive{zip.NewWriter(&b), r.date}
	} else {
		to += ".tar.gz"
		// Its header has neither a time nor a name.
		gz, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
		if err != nil {
			return err
		}
		a = &tarArchive{tar.NewWriter(gz), gz, r.date}
	}
	made := map[string]bool{}
	for _, f := range files {
		name := path.Join(folder, f.name)
		if dir := path.Dir(name); !made[dir] {
			made[dir] = true
			if err := a.add(dir+"/", fs.ModeDir|0o755, nil); err != nil {
				return err
			}
		}
		mode := fs.FileMode(0o644)
		if f.executable {
			mode = 0o755
		}
		if err := a.add(name, mode, f.octets); err != nil {
			return err
		}
	}
	if err := a.close(); err != nil {
		return err
	}
	return publish(to, b.Bytes())
}

// publish writes a file that everybody may read.
func publish(name string, octets []byte) error {
	return os.WriteFile(name, octets, 0o644) //nolint:gosec // a release is for everybody
}

type tarArchive struct {
	w    *tar.Writer
	gz   *gzip.Writer
	date time.Time
}

func (a *tarArchive) add(name string, mode fs.FileMode, octets []byte) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(mode.Perm()), Size: int64(len(octets)), ModTime: a.date, Format: tar.FormatUSTAR}
	if mode.IsDir() {
		header.Typeflag = tar.TypeDir
	}
	if err := a.w.WriteHeader(header); err != nil {
		return err
	}
	_, err := a.w.Write(octets)
	return err
}

func (a *tarArchive) close() error {
	if err := a.w.Close(); err != nil {
		return err
	}
	return a.gz.Close()
}

type zipArchive struct {
	w    *zip.Writer
	date time.Time
}

func (a *zipArchive) add(name string, mode fs.FileMode, octets []byte) error {
	header := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: a.date}
	if mode.IsDir() {
		header.Method = zip.Store
	}
	header.SetMode(mode)
	w, err := a.w.CreateHeader(header)
	if err != nil {
		return err
	}
	_, err = w.Write(octets)
	return err
}

func (a *zipArchive) close() error { return a.w.Close() }

// sums writes SHA256SUMS of all files of a folder, as sha256sum -c reads it.
func sums(folder string) error {
	entries, err := os.ReadDir(folder) // sorted
	if err != nil {
		return err
	}
	var lines strings.Builder
	for _, e := range entries {
		octets, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&lines, "%x  %s\n", sha256.Sum256(octets), e.Name())
	}
	return publish(filepath.Join(folder, "SHA256SUMS"), []byte(lines.String()))
}
