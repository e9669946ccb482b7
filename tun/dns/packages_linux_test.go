package dns

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// store is a folder with packages of Debian and with lists of what there is: those of the machine
// are neither read nor written.
type store struct{ dir string }

// debs finds the files of packages and of all that they need and this machine lacks. What is not
// in the store is downloaded into it; nothing is installed.
func debs(t *testing.T, packages ...string) []string {
	t.Helper()
	if len(packages) == 0 {
		return nil
	}
	for _, program := range []string{"apt-get", "dpkg-deb"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs programs of Debian, and there is no ", program)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip("no folder to keep packages in: ", err)
	}
	s := store{filepath.Join(cache, "martlet-test", "apt")}
	for _, folder := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(s.dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := os.Create(filepath.Join(s.dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	files, err := s.get(packages)
	if err != nil { // the lists are not there, or older than what the mirror has
		if err = updated(s); err == nil {
			files, err = s.get(packages)
		}
	}
	if err != nil {
		t.Skipf("%s cannot be had: %v", strings.Join(packages, " "), err)
	}
	return files
}

func (s store) get(packages []string) ([]string, error) {
	// With an empty folder in place of the archives it names all that would have to be fetched.
	list, err := s.apt("install", append([]string{"--print-uris", "-o", "Dir::Cache::archives=" + filepath.Join(s.dir, "empty")}, packages...)...)
	if err != nil {
		return nil, err
	}
	var files []string
	missing := false
	for line := range strings.Lines(list) {
		fields := strings.Fields(line) // 'URI' name size sum
		if len(fields) < 3 || !strings.HasSuffix(fields[1], ".deb") {
			continue
		}
		file := filepath.Join(s.dir, "archives", fields[1])
		_, err := os.Stat(file)
		missing = missing || err != nil
		files = append(files, file)
	}
	if missing {
		_, err = s.apt("install", append([]string{"--download-only"}, packages...)...)
	}
	return files, err
}

var (
	updateOnce sync.Once
	updateErr  error
)

// updated has new lists, which are asked for once: where there is no network this takes its time.
func updated(s store) error {
	updateOnce.Do(func() { _, updateErr = s.apt("update") })
	return updateErr
}

// apt runs apt-get for the store. The machine's own are only the configuration of where packages
// come from, and what is installed.
func (s store) apt(command string, args ...string) (string, error) {
	options := []string{"-qq", "-y", "--no-install-recommends"}
	for _, o := range []string{
		"Dir::State::lists=" + filepath.Join(s.dir, "lists"),
		"Dir::Cache=" + s.dir,
		"Dir::Cache::archives=" + filepath.Join(s.dir, "archives"),
		"Dir::Cache::pkgcache=pkgcache.bin",
		"Dir::Cache::srcpkgcache=",
		"Debug::NoLocking=1", // of the machine's packages; the store has a lock of ours
		"APT::Sandbox::User=root",
		"APT::Update::Error-Mode=any", // which lists could not be had is an error
		"Acquire::http::Timeout=20",
		"Acquire::Retries=1",
	} {
		options = append(options, "-o", o)
	}
	cmd := exec.Command("apt-get", append(append(options, command), args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		first, _, _ := strings.Cut(said.String(), "\n")
		return "", fmt.Errorf("apt-get %s: %w: %s", command, err, first)
	}
	return out.String(), nil
}

// unpack puts the files of a package below root. dpkg-deb -x would put folders in the place of
// links such as /lib.
func unpack(t *testing.T, deb, root string) {
	t.Helper()
	const script = `set -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"`
	if out, err := exec.Command("bash", "-c", script, "unpack", deb, root).CombinedOutput(); err != nil {
		t.Fatalf("unpack %s: %v\n%s", deb, err, out)
	}
}
