package config

import (
	"fmt"
	"reflect"
	"time"
)

// Load reads the configuration in a file, with all files and environment variables that
// it names, and checks it whole. The error is Errors: every fault at once.
func Load(path string) (*Config, error) {
	return (&Source{File: path}).Load()
}

// Parse reads a configuration as Load does from its text. Faults name the file name;
// relative paths in the text start at dir, and env looks up environment variables (nil
// knows none).
func Parse(name string, data []byte, dir string, env func(string) (string, bool)) (*Config, error) {
	return (&Source{}).parse(newFaults(name, dir), data, env, "")
}

func newFaults(file, dir string) *faults {
	return &faults{spoilt: map[string]bool{}, origin: &origin{file: file, dir: dir, at: map[string]position{}}}
}

// parse reads the text of the file with what s puts over it. env looks up what "env:NAME"
// stands for, and exposed says why no secret may stand in the text.
func (s *Source) parse(f *faults, data []byte, env func(string) (string, bool), exposed string) (*Config, error) {
	if len(data) > maxSize {
		f.add("", fmt.Sprintf("the text has more than %d octets", maxSize), "")
		return nil, f.err()
	}
	root, ok := readTOML(data, f)
	strangers := s.cover(root, f)
	c := &Config{origin: f.origin}
	d := &decoder{faults: f, env: env, asked: map[string]bool{}, exposed: exposed}
	d.table(reflect.ValueOf(c).Elem(), root, "")
	f.strangers(strangers, d.asked, root)
	// Else keys are missing that the author wrote.
	if ok {
		c.complete(f, time.Now())
	}
	if len(f.errs) == 0 {
		f.checkStrictly(data)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	return c, nil
}
