package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	mit  = "Permission is hereby granted, free of charge, to any person\n obtaining a copy of this software"
	bsd2 = "Redistributions in binary form must reproduce the above copyright notice, this list"
	bsd3 = bsd2 + " … may be used to endorse or promote products derived from\nthis software without specific prior written permission."
	mpl  = "Mozilla Public License Version 2.0\n==="
)

// TestLicences: a module without a licence, or with one that is not permissive, is not released.
func TestLicences(t *testing.T) {
	type files map[string]string
	for name, tt := range map[string]struct {
		path  string
		files files
		want  []string // nil: refused
	}{
		"MIT":                   {"m", files{"LICENSE": mit}, []string{"MIT"}},
		"by other names":        {"m", files{"LICENCE.md": bsd2, "COPYING": mit}, []string{"BSD-2-Clause", "MIT"}},
		"three clauses":         {"m", files{"LICENSE.txt": bsd3}, []string{"BSD-3-Clause"}},
		"two in one file":       {"m", files{"LICENSE": bsd3 + mit}, []string{"BSD-3-Clause", "MIT"}},
		"with patents":          {"m", files{"LICENSE": bsd3, "PATENTS": "additional rights"}, []string{"BSD-3-Clause"}},
		"above the package":     {"m", files{"LICENSE": mit, "pkg/x.go": ""}, []string{"MIT"}},
		"beside the package":    {"m", files{"LICENSE": mit, "pkg/LICENSE": bsd3}, []string{"BSD-3-Clause", "MIT"}},
		"of what is not linked": {"m", files{"LICENSE": mit, "pkg/x.go": "", "tool/LICENSE": "GNU General Public License"}, []string{"MIT"}},
		"by file, named":        {"layeh.com/radius", files{"LICENSE": mpl}, []string{"MPL-2.0"}},
		"none":                  {"m", files{"README": mit}, nil},
		"only notices":          {"m", files{"NOTICE": "by us", "PATENTS": ""}, nil},
		"script for licences":   {"m", files{"checklicense.sh": mit}, nil},
		"by file, not named":    {"m", files{"LICENSE": mpl}, nil},
		"copyleft":              {"m", files{"LICENSE": "GNU GENERAL PUBLIC\nLICENSE Version 3"}, nil},
		"copyleft, or else":     {"m", files{"LICENSE": "GNU Lesser General Public License, or " + mit}, nil},
		"copyleft in a package": {"m", files{"LICENSE": mit, "pkg/COPYING": "GNU General Public License"}, nil},
		"unknown":               {"m", files{"LICENSE": "do what you like"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			packages := []string{root}
			for file, text := range tt.files {
				path := filepath.Join(root, filepath.FromSlash(file))
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if strings.HasPrefix(file, "pkg/") {
					packages = []string{filepath.Dir(path)}
				}
			}
			m := &module{path: tt.path}
			err := m.readLicences(root, packages)
			if (err == nil) != (tt.want != nil) || err == nil && !slices.Equal(m.licences, tt.want) {
				t.Errorf("licences %v, %v; want %v", m.licences, err, tt.want)
			}
		})
	}
}
