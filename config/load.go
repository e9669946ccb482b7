package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"time"
)

// Load reads the configuration in a file, with all files and environment variables that
// it names, and checks it whole. The error is Errors: every fault at once.
func Load(path string) (*Config, error) {
	f := newFaults(path, filepath.Dir(path))
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		hint := ""
		if here, err := os.Getwd(); err == nil && !filepath.IsAbs(path) {
			hint = "the current folder is " + here
		}
		f.add("", "the file does not exist", hint)
		return nil, f.err()
	}
	data, info, err := open(path)
	if err != nil {
		f.fault("", err)
		return nil, f.err()
	}
	return parse(f, data, os.LookupEnv, exposed(path, info))
}

// Parse reads a configuration as Load does from its text. Faults name the file name;
// relative paths in the text start at dir, and env looks up environment variables (nil
// knows none).
func Parse(name string, data []byte, dir string, env func(string) (string, bool)) (*Config, error) {
	return parse(newFaults(name, dir), data, env, "")
}

func newFaults(file, dir string) *faults {
	return &faults{spoilt: map[string]bool{}, origin: &origin{file: file, dir: dir, at: map[string]position{}}}
}

func parse(f *faults, data []byte, env func(string) (string, bool), exposed string) (*Config, error) {
	if len(data) > maxSize {
		f.add("", fmt.Sprintf("the text has more than %d octets", maxSize), "")
		return nil, f.err()
	}
	root, ok := readTOML(data, f)
	c := &Config{origin: f.origin}
	d := &decoder{faults: f, dir: f.origin.dir, env: env, exposed: exposed}
	d.table(reflect.ValueOf(c).Elem(), root, "")
	// Else keys are missing that the author wrote.
	if ok {
		c.complete(f, f.origin.dir, time.Now())
	}
	if len(f.errs) == 0 {
		f.checkStrictly(data)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	return c, nil
}
