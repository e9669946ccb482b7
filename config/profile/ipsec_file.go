package profile

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// ipsecFile is an ipsec.conf with what it includes.
type ipsecFile struct {
	setup map[string]string
	conns map[string]*ipsecSection
	order []string // of conns
	cas   []string
}

// ipsecSection is a section conn.
type ipsecSection struct {
	place  string
	values map[string]string
	also   []string
	used   bool // another one takes it over
}

// ipsecReader reads an ipsec.conf.
type ipsecReader struct {
	d     *draft
	file  *ipsecFile
	count int
	open  []string
}

// readIPsecFile reads a text and what it includes.
func (d *draft) readIPsecFile(data []byte) (*ipsecFile, error) {
	r := &ipsecReader{d: d, file: &ipsecFile{setup: map[string]string{}, conns: map[string]*ipsecSection{}}}
	err := r.read(lastElement(d.o.Name), data)
	return r.file, err
}

func (r *ipsecReader) read(name string, data []byte) error {
	var values map[string]string // of the section that is being read
	var conn *ipsecSection
	for i, line := range strings.Split(string(data), "\n") {
		if r.count++; r.count > 10*maxSettings {
			return &Error{"the profile is too long", fmt.Sprintf("it has more than %d lines with what it includes", 10*maxSettings), ""}
		}
		at := fmt.Sprintf("%s:%d", shown(name), i+1)
		indented := strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")
		line = strings.TrimSpace(withoutComment(line))
		if line == "" {
			continue
		}
		key, value, isSetting := strings.Cut(line, "=")
		words := strings.Fields(line)
		switch {
		case words[0] == "include" && len(words) == 2:
			if err := r.d.included(at, unquote(words[1]), &r.open, r.read); err != nil {
				return err
			}
		case !indented && words[0] == "config":
			values, conn = r.file.setup, nil
		case !indented && words[0] == "conn" && len(words) == 2:
			conn = r.section(words[1])
			values = conn.values
		case !indented && words[0] == "ca" && len(words) == 2:
			r.file.cas = append(r.file.cas, words[1])
			values, conn = map[string]string{}, nil
		case !indented && words[0] == "version":
		case isSetting && values != nil:
			key, value = strings.ToLower(strings.TrimSpace(key)), unquote(strings.TrimSpace(value))
			if key == "also" && conn != nil {
				conn.also = append(conn.also, strings.Fields(value)...)
			} else {
				values[key] = value
			}
		default:
			r.d.note(at, "%s is not understood", quoted(words[0]))
		}
	}
	return nil
}

func (r *ipsecReader) section(name string) *ipsecSection {
	s := r.file.conns[name]
	if s == nil {
		s = &ipsecSection{place: "conn " + name, values: map[string]string{}}
		r.file.conns[name] = s
		r.file.order = append(r.file.order, name)
	}
	return s
}

// included reads the files that fit a pattern, which starts at the folder of the file that has it.
func (d *draft) included(at, pattern string, open *[]string, read func(name string, data []byte) error) error {
	if n := len(*open); n > 0 && !path.IsAbs(pattern) {
		pattern = path.Join(path.Dir((*open)[n-1]), pattern)
	}
	names, err := d.glob(pattern)
	if err == nil && len(names) == 0 {
		err = errors.New("no such file is there")
	}
	if err != nil {
		d.note(at, "include %s has nothing: %s", quoted(pattern), err)
		return nil
	}
	for _, name := range names {
		if slices.Contains(*open, name) || len(*open) == maxIncludes {
			return &Error{"the profile cannot be read", fmt.Sprintf("%s: %s is included by itself, or files include each other more than %d deep", at, quoted(name), maxIncludes), "remove the include"}
		}
		data, err := d.read(name)
		if err != nil {
			d.note(at, "%s is not included: %s", quoted(name), err)
			continue
		}
		*open = append(*open, name)
		if err := read(name, data); err != nil {
			return err
		}
		*open = (*open)[:len(*open)-1]
	}
	return nil
}

// withoutComment cuts a comment off a line, but not within quotes.
func withoutComment(line string) string {
	quote := rune(0)
	for i, r := range line {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '"':
			quote = r
		case r == '#' && (i == 0 || strings.ContainsRune(" \t", rune(line[i-1]))):
			return line[:i]
		}
	}
	return line
}

func unquote(text string) string {
	if len(text) >= 2 && (text[0] == '"' || text[0] == '\'') && text[len(text)-1] == text[0] {
		return text[1 : len(text)-1]
	}
	return text
}

// resolve returns what counts for a conn: what it has itself, what it takes over by also, and what
// %default has.
func (f *ipsecFile) resolve(d *draft, name string) map[string]string {
	out := map[string]string{}
	seen := map[string]bool{}
	var add func(name, from string, depth int)
	add = func(name, from string, depth int) {
		s := f.conns[name]
		if s == nil || depth > maxSections {
			d.note(from, "the section %s that it takes over is not there, or too far", quoted(name))
			return
		}
		if seen[name] {
			return
		}
		seen[name] = true
		for k, v := range s.values {
			if _, ok := out[k]; !ok {
				out[k] = v
			}
		}
		for _, other := range s.also {
			add(other, s.place, depth+1)
		}
	}
	add(name, "", 0)
	if f.conns["%default"] != nil {
		add("%default", "", 0)
	}
	return out
}

// markUsed finds the sections that others take over: they are templates.
func (f *ipsecFile) markUsed() {
	for _, s := range f.conns {
		for _, name := range s.also {
			if other := f.conns[name]; other != nil {
				other.used = true
			}
		}
	}
}
