package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// module is one that is linked into the program of a target.
type module struct {
	path, version string
	licences      []string // SPDX identifiers, at least one
	texts         []string // of its licences and notices
}

// standardLibrary is Go's, under the name that purl has for it.
const standardLibrary = "std"

// modules lists those whose packages are linked, by path; the standard library is one of them.
func (r *release) modules(ctx context.Context, t target) ([]module, error) {
	list, err := r.gotool(ctx, t, "list", "-deps", "-json=Dir,Standard,Module", "./cmd/martlet")
	if err != nil {
		return nil, err
	}
	environment, err := output(ctx, r.root, t.env(), "go", "env", "GOROOT", "GOVERSION")
	if err != nil {
		return nil, err
	}
	goroot, goversion, _ := strings.Cut(environment, "\n")
	type origin struct{ path, version, dir string }
	packages := map[origin]map[string]bool{} // folders
	for d := json.NewDecoder(strings.NewReader(list)); ; {
		var p struct {
			Dir      string
			Standard bool
			Module   *struct {
				Path, Version, Dir string
				Main               bool
				Replace            *struct{ Path string }
			}
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		from := origin{standardLibrary, strings.TrimPrefix(goversion, "go"), goroot}
		switch {
		case p.Standard:
			p.Dir = goroot
		case p.Module == nil:
			return nil, fmt.Errorf("%s belongs to no module", p.Dir)
		case p.Module.Main:
			continue
		case p.Module.Replace != nil:
			return nil, fmt.Errorf("%s is replaced by %s: a release has what go.mod requires", p.Module.Path, p.Module.Replace.Path)
		default:
			from = origin{p.Module.Path, p.Module.Version, p.Module.Dir}
		}
		if packages[from] == nil {
			packages[from] = map[string]bool{}
		}
		packages[from][p.Dir] = true
	}
	var out []module
	for from, dirs := range packages {
		m := module{path: from.path, version: from.version}
		if err := m.readLicences(from.dir, slices.Sorted(maps.Keys(dirs))); err != nil {
			return nil, fmt.Errorf("module %s: %w", m.path, err)
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b module) int { return strings.Compare(a.path, b.path) })
	return out, nil
}

// readLicences reads the licences of a module in root of which the packages in some folders are
// linked: what lies beside a package, or above it up to the root, holds for it.
func (m *module) readLicences(root string, packages []string) error {
	read := map[string]bool{}
	for _, dir := range packages {
		for ; !read[dir] && (dir == root || strings.HasPrefix(dir, root+string(filepath.Separator))); dir = filepath.Dir(dir) {
			read[dir] = true
			entries, err := os.ReadDir(dir)
			if err != nil {
				return err
			}
			for _, e := range entries {
				if !e.Type().IsRegular() || !licenceFile.MatchString(e.Name()) {
					continue
				}
				text, err := os.ReadFile(filepath.Join(dir, e.Name()))
				if err != nil {
					return err
				}
				if err := m.addLicence(e.Name(), string(text)); err != nil {
					return err
				}
			}
		}
	}
	if len(m.licences) == 0 {
		return errors.New("it has no licence")
	}
	slices.Sort(m.licences)
	return nil
}
