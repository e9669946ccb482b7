package config

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"martlet/crypto/pki"
)

// maxCRLFiles is how many files of a folder of revocation lists are read.
const maxCRLFiles = 1000

// ReadCRLs reads the revocation lists in a file, or in the files of a folder whose
// names end in .crl, .pem, .der or have no dot at all; hidden files are not looked at.
func ReadCRLs(files Files, path string) ([]*pki.CRL, error) {
	info, err := files.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if !info.IsDir() {
		crl, err := fileReader{files}.crl(path)
		if err != nil {
			return nil, err
		}
		return []*pki.CRL{crl}, nil
	}
	entries, err := readDir(files, path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	var all []*pki.CRL
	for _, e := range entries {
		if !isCRLName(e) {
			continue
		}
		if len(all) == maxCRLFiles {
			return nil, hinted(path+" has too many files", "")
		}
		crl, err := fileReader{files}.crl(filepath.Join(path, e.Name()))
		if err != nil {
			return nil, err
		}
		all = append(all, crl)
	}
	return all, nil
}

// readDir are the entries of a folder by their names' order.
func readDir(files Files, path string) ([]fs.DirEntry, error) {
	f, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}

func isCRLName(e fs.DirEntry) bool {
	if e.IsDir() || strings.HasPrefix(e.Name(), ".") {
		return false
	}
	switch filepath.Ext(e.Name()) {
	case ".crl", ".pem", ".der", "":
		return true
	}
	return false
}

func (r fileReader) crl(path string) (*pki.CRL, error) {
	data, _, err := r.file(path)
	if err != nil {
		return nil, err
	}
	crl, err := pki.ParseCRL(data)
	if err != nil {
		return nil, hinted(path+": "+strings.TrimPrefix(err.Error(), "pki: "), "")
	}
	return crl, nil
}
