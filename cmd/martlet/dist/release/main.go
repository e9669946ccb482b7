// Release makes the archives of a version of Martlet, for every system that it is released for:
//
//	go run ./cmd/martlet/dist/release VERSION FOLDER
//
// writes into FOLDER, which does not exist yet:
//
//	martlet-VERSION-OS-ARCH.tar.gz    .zip for Windows: the program, README, licences of all that is
//	                                  in it, manual pages, shell completions, files for services
//	martlet-VERSION-OS-ARCH.cdx.json  its bill of materials, in CycloneDX
//	SHA256SUMS                        of all these
//
// The same source and version of Go make the same octets, whenever, wherever and by whom: the time
// of everything is SOURCE_DATE_EPOCH, or that of git's last commit. The licence of each module
// that is linked must be known and permissive, else nothing is made.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: release VERSION FOLDER")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintf(os.Stderr, "release: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, version, folder string) error {
	root, err := output(ctx, ".", nil, "go", "list", "-m", "-f", "{{.Dir}}", "martlet")
	if err != nil {
		return err
	}
	date, err := sourceDate(ctx, root)
	if err != nil {
		return err
	}
	r := &release{root: root, version: version, date: date, progress: os.Stderr}
	return r.make(ctx, folder, targets)
}

// wellFormed keeps blanks and quotes out of linker flags, and slashes out of file names.
var wellFormed = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+~-]*$`)

// sourceDate is when the source was made what it is.
func sourceDate(ctx context.Context, root string) (time.Time, error) {
	seconds := os.Getenv("SOURCE_DATE_EPOCH")
	if seconds == "" {
		var err error
		if seconds, err = output(ctx, root, nil, "git", "log", "-1", "--format=%ct"); err != nil {
			return time.Time{}, fmt.Errorf("without git SOURCE_DATE_EPOCH must be set: %w", err)
		}
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is no number of seconds: %w", err)
	}
	date := time.Unix(n, 0).UTC()
	if date.Year() < 1980 {
		return time.Time{}, fmt.Errorf("%v: archives for Windows cannot hold a time before 1980", date)
	}
	return date, nil
}

// release is one version, of which archives are made.
type release struct {
	root     string // of the source
	version  string
	date     time.Time
	progress *os.File // may be nil
	flags    []string // of the go command, besides its own
}

// make makes everything for some targets. What is there after an error is of no use.
func (r *release) make(ctx context.Context, folder string, targets []target) error {
	if !wellFormed.MatchString(r.version) {
		return fmt.Errorf("%q is not a version such as 1.2.3", r.version)
	}
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "martlet-release")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	common, err := r.common(ctx, work)
	if err != nil {
		return err
	}
	for _, t := range targets {
		r.say("%s", t.name())
		if err := r.makeFor(ctx, folder, work, t, common); err != nil {
			return fmt.Errorf("%s: %w", t.name(), err)
		}
	}
	return sums(folder)
}

func (r *release) makeFor(ctx context.Context, folder, work string, t target, common []file) error {
	program := filepath.Join(work, t.name(), t.program())
	if err := r.build(ctx, t, program); err != nil {
		return err
	}
	modules, err := r.modules(ctx, t)
	if err != nil {
		return err
	}
	bom, err := r.bom(program, t, modules)
	if err != nil {
		return err
	}
	octets, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	name := "martlet-" + r.version + "-" + t.name()
	files := append([]file{
		{name: t.program(), octets: octets, executable: true},
		{name: "THIRD-PARTY-NOTICES.txt", octets: notices(r.version, t, modules)},
	}, common...)
	if err := publish(filepath.Join(folder, name+".cdx.json"), bom); err != nil {
		return err
	}
	return r.pack(filepath.Join(folder, name), name, t, files)
}

func (r *release) say(format string, args ...any) {
	if r.progress != nil {
		fmt.Fprintf(r.progress, format+"\n", args...)
	}
}

// output runs a program in a folder and returns what it says, without blanks around.
func output(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", strings.Join(cmd.Args, " "), err, stderr.String(), out)
	}
	return strings.TrimSpace(string(out)), nil
}
