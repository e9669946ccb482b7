package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"martlet/config/profile"
)

// fromPreset makes a profile for a gateway of a provider, that is named by [USER@]HOST.
func (i *importer) fromPreset(cmd *cobra.Command, word string) (*imported, error) {
	gateway, ok := parseTarget(word, "")
	if !ok {
		return nil, usage(cmd, fmt.Errorf("%q is no [USER@]HOST", word))
	}
	var more fs.FS
	if i.presets != "" {
		root, err := os.OpenRoot(i.presets)
		if err != nil {
			return nil, unreadable(i.presets, err)
		}
		defer root.Close()
		more = root.FS()
	}
	preset, err := profile.LookupPreset(i.preset, more)
	if err != nil {
		return nil, notImported("--preset", err)
	}
	var ca []byte
	if i.ca != "" {
		if ca, err = readAtMost(i.ca, maxProfile+1); err != nil { // too much is a fault that the preset tells
			return nil, err
		}
	}
	in := newImported()
	in.Origin.File = gateway.host
	from, err := preset.Connection(gateway.host, gateway.user, ca)
	if err == nil {
		err = in.take(from)
	}
	if err != nil {
		return nil, notImported("--preset "+preset.Name, err)
	}
	return in, nil
}

// readAtMost reads the first octets of a file.
func readAtMost(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, unreadable(file, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, unreadable(file, err)
	}
	return data, nil
}
