package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const wireguardModule = "golang.zx2c4.com/wireguard"

// built are the programs that are measured, each built when it is first wanted.
type built struct {
	martlet        string
	wireguard      string
	wireguardSocks string
	tests          map[string]string // compiled tests, by folder of the package
}

// build makes martlet as a release has it.
func (b *bench) build(ctx context.Context) error {
	if b.built.martlet != "" {
		return nil
	}
	progress("building martlet")
	to := filepath.Join(b.dir, "martlet")
	flags, err := os.ReadFile(filepath.Join(b.root, "cmd", "martlet", "dist", "release", "flags.txt"))
	if err != nil {
		return err
	}
	args := slices.Concat([]string{"build"}, strings.Fields(string(flags)), []string{"-ldflags", "-s -w", "-o", to, "./cmd/martlet"})
	if err := gotool(ctx, b.root, args...); err != nil {
		return err
	}
	b.built.martlet = to
	return nil
}

// buildWireguard makes wireguard-go of the version in go.mod, in a module of its own: with
// the dependencies that it names itself.
func (b *bench) buildWireguard(ctx context.Context) error {
	if b.built.wireguard != "" {
		return nil
	}
	to, err := b.buildApart(ctx, "wireguard-go", wireguardModule, nil, wireguardModule)
	b.built.wireguard = to
	return err
}

// buildWireguardSocks makes the peer that serves SOCKS5, likewise.
func (b *bench) buildWireguardSocks(ctx context.Context) error {
	if b.built.wireguardSocks != "" {
		return nil
	}
	source, err := os.ReadFile(filepath.Join(b.root, "test", "bench", "wireguardsocks", "main.go"))
	if err != nil {
		return err
	}
	to, err := b.buildApart(ctx, "wireguardsocks", ".", source, wireguardModule, "github.com/armon/go-socks5")
	b.built.wireguardSocks = to
	return err
}

// buildApart builds a package in a module of its own, which needs some modules in the versions of
// go.mod; source is what is in the module. It returns the program's path.
func (b *bench) buildApart(ctx context.Context, name, pkg string, source []byte, modules ...string) (string, error) {
	to := filepath.Join(b.dir, name)
	dir, err := os.MkdirTemp(b.dir, name)
	if err != nil {
		return "", err
	}
	if err := gotool(ctx, dir, "mod", "init", name); err != nil {
		return "", err
	}
	get := []string{"get"}
	for _, m := range modules {
		version, err := output1(ctx, b.root, "list", "-m", "-f", "{{.Version}}", m)
		if err != nil {
			return "", err
		}
		get = append(get, m+"@"+version)
	}
	progress("building %s with %s", name, strings.Join(get[1:], ", "))
	if err := gotool(ctx, dir, get...); err != nil {
		return "", err
	}
	if source != nil {
		if err := os.WriteFile(filepath.Join(dir, "main.go"), source, 0o600); err != nil {
			return "", err
		}
		// The sums of what it imports.
		if err := gotool(ctx, dir, "get", "."); err != nil {
			return "", err
		}
	}
	if err := gotool(ctx, dir, "build", "-trimpath", "-ldflags", "-s -w", "-o", to, pkg); err != nil {
		return "", err
	}
	return to, nil
}

// buildTests compiles the tests of a package.
func (b *bench) buildTests(ctx context.Context, folder string) (string, error) {
	if to := b.built.tests[folder]; to != "" {
		return to, nil
	}
	progress("building the tests of %s", folder)
	to := filepath.Join(b.dir, folder+".test")
	if err := gotool(ctx, b.root, "test", "-c", "-o", to, "./"+folder); err != nil {
		return "", err
	}
	if b.built.tests == nil {
		b.built.tests = map[string]string{}
	}
	b.built.tests[folder] = to
	return to, nil
}

func gotool(ctx context.Context, dir string, args ...string) error {
	_, err := output1(ctx, dir, args...)
	return err
}

// output1 is what the go command says, without the line's end.
func output1(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, tail(stderr.String(), 10))
	}
	return strings.TrimSpace(string(out)), nil
}
