package profile

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// iniSection is a section of a file in which lines are KEY=VALUE below [SECTION]. A key may stand
// there several times.
type iniSection struct {
	name  string
	keys  []string // in order
	all   map[string][]string
	asked map[string]bool
}

// get returns the last value of a key.
func (s *iniSection) get(key string) string {
	if s == nil {
		return ""
	}
	s.asked[key] = true
	if all := s.all[key]; len(all) > 0 {
		return all[len(all)-1]
	}
	return ""
}

func (s *iniSection) at(key string) string { return "[" + s.name + "] " + key }

// readINI reads sections in order.
func readINI(data []byte) ([]*iniSection, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var out []*iniSection
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if name, ok := strings.CutPrefix(line, "["); ok && strings.HasSuffix(name, "]") {
			out = append(out, &iniSection{name: strings.TrimSuffix(name, "]"), all: map[string][]string{}, asked: map[string]bool{}})
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		switch {
		case !ok:
			return nil, &Error{fmt.Sprintf("line %d cannot be read", i+1), "it is neither [SECTION] nor KEY=VALUE", "copy the file again"}
		case len(out) == 0:
			return nil, &Error{fmt.Sprintf("line %d cannot be read", i+1), "it stands in no section", "copy the file again"}
		case i > 10*maxSettings:
			return nil, &Error{"the profile is too long", fmt.Sprintf("it has more than %d lines", 10*maxSettings), ""}
		}
		s, key := out[len(out)-1], strings.TrimSpace(key)
		if len(s.all[key]) == 0 {
			s.keys = append(s.keys, key)
		}
		s.all[key] = append(s.all[key], strings.TrimSpace(value))
	}
	return out, nil
}

// named returns the section with a name, nil if there is none.
func named(all []*iniSection, name string) *iniSection {
	if i := slices.IndexFunc(all, func(s *iniSection) bool { return s.name == name }); i >= 0 {
		return all[i]
	}
	return nil
}
