package main

import (
	"context"
	_ "embed"
	"runtime"
	"slices"
	"strings"
)

// target is what a program is built for.
type target struct{ os, arch string }

// targets are those that are released. arm is ARMv7.
var targets = []target{
	{"linux", "amd64"},
	{"linux", "arm64"},
	{"linux", "arm"},
	{"linux", "riscv64"},
	{"darwin", "amd64"},
	{"darwin", "arm64"},
	{"windows", "amd64"},
	{"windows", "arm64"},
	{"freebsd", "amd64"},
	{"openbsd", "amd64"},
}

// name is that in names of files: linux-armv7.
func (t target) name() string {
	if t.arch == "arm" {
		return t.os + "-armv7"
	}
	return t.os + "-" + t.arch
}

func (t target) program() string {
	if t.os == "windows" {
		return "martlet.exe"
	}
	return "martlet"
}

// env is the environment for the go command. All that may change what is built is set, so that
// nothing of who builds it does.
func (t target) env() []string {
	return []string{
		"CGO_ENABLED=0", "GOOS=" + t.os, "GOARCH=" + t.arch, "GOARM=7", "GOAMD64=v1", "GOARM64=v8.0", "GORISCV64=rva20u64",
		"GOFLAGS=", "GOEXPERIMENT=", "GOWORK=off",
	}
}

// flagsText has the flags of all programs that are released or measured, a line each: nothing of the
// folder and of git, no HTTP/2, which nothing in the program speaks, and nothing inlined but where
// packets and the arithmetic of handshakes pass, which takes a tenth off the program. dist/rootfs and
// test/bench read the same file.
//
//go:embed flags.txt
var flagsText string

var buildFlags = strings.Fields(flagsText)

// linkFlags leave out the tables for debuggers.
const linkFlags = "-s -w"

// build builds the program.
func (r *release) build(ctx context.Context, t target, to string) error {
	_, err := r.gotool(ctx, t, "build", "-ldflags", linkFlags+" -X martlet.Version="+r.version, "-o", to, "./cmd/martlet")
	return err
}

// gotool runs a go command with the flags of a release.
func (r *release) gotool(ctx context.Context, t target, command string, args ...string) (string, error) {
	return output(ctx, r.root, t.env(), "go", slices.Concat([]string{command}, buildFlags, r.flags, args)...)
}

// host is where this runs.
func host() target { return target{runtime.GOOS, runtime.GOARCH} }
