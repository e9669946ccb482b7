package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"martlet"
	"martlet/config"
)

// hostWithin is how long a program that tells of the host may take.
const hostWithin = 5 * time.Second

// buildFacts is what the program was built from and for.
func buildFacts() string {
	var b strings.Builder
	fmt.Fprintf(&b, "martlet %s%s\n%s %s/%s\n", martlet.Version, revision(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b.String()
	}
	harmless := []string{"-buildmode", "-compiler", "-tags", "-trimpath", "CGO_ENABLED", "vcs", "vcs.revision", "vcs.time", "vcs.modified"}
	for _, s := range info.Settings {
		if slices.Contains(harmless, s.Key) || strings.HasPrefix(s.Key, "GO") && !strings.Contains(s.Value, "/") {
			fmt.Fprintf(&b, "%s=%s\n", s.Key, s.Value)
		}
	}
	for _, dep := range info.Deps {
		fmt.Fprintf(&b, "%s %s\n", dep.Path, dep.Version)
	}
	return b.String()
}

// system is the host as far as it is like others.
func (r *redactor) system(c *config.Config) string {
	var b strings.Builder
	fmt.Fprintf(&b, "processors %d\n", runtime.NumCPU())
	for _, name := range []string{"GOGC", "GOMEMLIMIT", "GOMAXPROCS", "GODEBUG"} {
		if v, ok := os.LookupEnv(name); ok {
			fmt.Fprintf(&b, "%s=%s\n", name, r.text(v))
		}
	}
	for _, file := range []string{"/proc/sys/kernel/ostype", "/proc/sys/kernel/osrelease"} {
		if text, err := os.ReadFile(file); err == nil {
			fmt.Fprintf(&b, "%s\n", r.text(strings.TrimSpace(string(text))))
		}
	}
	if text, err := os.ReadFile("/etc/os-release"); err == nil {
		for line := range strings.Lines(string(text)) {
			if key, _, _ := strings.Cut(line, "="); slices.Contains([]string{"ID", "VERSION_ID", "ID_LIKE"}, key) {
				b.WriteString(r.text(line))
			}
		}
	}
	f := martlet.FootprintOf(c)
	fmt.Fprintf(&b, "memory %d MiB, container limit %v, small %v\n", f.Memory>>20, f.Container, f.Small)
	inProcess, why := martlet.InProcess(c)
	fmt.Fprintf(&b, "packets would end in the process: %v %s\n", inProcess, r.text(why))
	return b.String()
}

// resolvers is /etc/resolv.conf without what anybody wrote beside.
func (r *redactor) resolvers(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || strings.ContainsAny(words[0][:1], "#;") {
			continue
		}
		for i, word := range words[1:] {
			if words[0] == "search" || words[0] == "domain" {
				words[i+1] = r.identity(word)
			} else {
				words[i+1] = r.word(word)
			}
		}
		words[0] = r.word(words[0])
		b.WriteString(strings.Join(words, " ") + "\n")
	}
	return b.String()
}

// outputOf runs a program that tells of the host in JSON.
func outputOf(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, hostWithin)
	defer cancel()
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, fmt.Errorf("it ended with status %d: %s", exit.ExitCode(), strings.TrimSpace(string(exit.Stderr)))
	}
	return out, err
}

// ourTables are the nftables tables of martlet, with all that is in them.
func ourTables(ctx context.Context) ([]byte, error) {
	names, err := outputOf(ctx, "nft", "-j", "list", "tables")
	if err != nil {
		return nil, err
	}
	var list struct {
		All []struct {
			Table *struct{ Family, Name string } `json:"table"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal(names, &list); err != nil {
		return nil, err
	}
	out := []json.RawMessage{}
	for _, entry := range list.All {
		if entry.Table == nil || !strings.HasPrefix(entry.Table.Name, "martlet-") {
			continue
		}
		text, err := outputOf(ctx, "nft", "-j", "list", "table", entry.Table.Family, entry.Table.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return json.Marshal(out)
}
