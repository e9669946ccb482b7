package main

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"
)

// file is one in an archive.
type file struct {
	name       string // with slashes, below the archive's folder
	octets     []byte
	executable bool
}

// documents are what is packed from the root of the source.
var documents = []string{"README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md"}

// needSource are files in dist of which nobody has use without the source.
var needSource = []string{"Containerfile", "compose.yaml", "rootfs"}

// completions are the files that shells look for.
var completions = []struct{ shell, name string }{
	{"bash", "martlet.bash"}, {"zsh", "_martlet"}, {"fish", "martlet.fish"}, {"powershell", "martlet.ps1"},
}

// common are the files that every archive has.
func (r *release) common(ctx context.Context, work string) ([]file, error) {
	var files []file
	add := func(name, from string) error {
		octets, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		files = append(files, file{name: name, octets: octets})
		return nil
	}
	for _, name := range documents {
		if err := add(name, filepath.Join(r.root, name)); err != nil {
			return nil, err
		}
	}
	dist := filepath.Join(r.root, "cmd", "martlet", "dist")
	entries, err := os.ReadDir(dist)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || slices.Contains(needSource, e.Name()) {
			continue
		}
		if err := add(path.Join("dist", e.Name()), filepath.Join(dist, e.Name())); err != nil {
			return nil, err
		}
	}

	r.say("manual pages")
	manual := filepath.Join(work, "man")
	if err := os.Mkdir(manual, 0o755); err != nil {
		return nil, err
	}
	if _, err := r.gotool(ctx, host(), "test", "-vet=off", "-count=1", "-run", "^TestManual$", "./cmd/martlet", "-manual", r.date.Format(time.DateOnly)+"="+manual); err != nil {
		return nil, err
	}
	for _, name := range []string{"martlet.1", "martlet.toml.5"} {
		if err := add(path.Join("man", name), filepath.Join(manual, name)); err != nil {
			return nil, err
		}
	}

	r.say("completions")
	program := filepath.Join(work, "host", host().program())
	if err := r.build(ctx, host(), program); err != nil {
		return nil, err
	}
	for _, c := range completions {
		text, err := output(ctx, work, nil, program, "completion", c.shell)
		if err != nil {
			return nil, err
		}
		files = append(files, file{name: path.Join("completions", c.name), octets: []byte(text + "\n")})
	}
	return files, nil
}
