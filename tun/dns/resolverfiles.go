//go:build unix

package dns

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// writeResolverFiles makes our files in the folder of suffixes under root those that c wants. A
// file of somebody else is left, and is an error: names below it would go there.
func writeResolverFiles(root string, c Config) error {
	wanted := resolverFiles(c)
	if len(wanted) > 0 {
		if err := os.MkdirAll(filepath.Join(root, resolverFolder), 0o755); err != nil {
			return &Error{"make the folder of split domains", err, "run as root"}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		path := filepath.Join(root, name)
		b, err := readFile(path, maxConf)
		if err == nil && resolverDevice(string(b)) == "" {
			return &Error{"write " + path, errors.New("somebody else has the resolvers of this domain there"), "move the file away, or leave the domain out of the tunnel's"}
		}
		if err := writeFile(path, []byte(wanted[name]), 0o644); err != nil {
			return &Error{"write " + path, err, "run as root"}
		}
	}
	return removeResolverFiles(root, func(device, path string) bool {
		_, keep := wanted[path]
		return device == c.Device && !keep
	})
}

// removeResolverFiles removes those of ours that are chosen by device and path from the root.
func removeResolverFiles(root string, chosen func(device, path string) bool) error {
	entries, err := os.ReadDir(filepath.Join(root, resolverFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &Error{"read the folder of split domains", err, "run as root"}
	}
	var failed []error
	for _, e := range entries {
		path := filepath.Join(root, resolverFolder, e.Name())
		b, err := readFile(path, maxConf)
		if err != nil {
			continue // not ours
		}
		if device := resolverDevice(string(b)); device != "" && chosen(device, filepath.ToSlash(filepath.Join(resolverFolder, e.Name()))) {
			if err := os.Remove(path); err != nil {
				failed = append(failed, &Error{"remove " + path, err, "run as root"})
			}
		}
	}
	return errors.Join(failed...)
}
