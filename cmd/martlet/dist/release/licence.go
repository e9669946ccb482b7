package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var (
	// licenceFile is how files are called that have to go with a program.
	licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)(\.(md|txt)|[-.][a-z0-9]+)?$`)
	// supplement are those among them that are no licence by themselves.
	supplement = regexp.MustCompile(`(?i)^(notice|patents)`)
)

// permissive are the licences that may be in the program, each by words that no other has, in lower
// case and with single blanks.
var permissive = []struct{ id, words string }{
	{"Apache-2.0", "apache license version 2.0, january 2004"},
	{"BSD-3-Clause", "may be used to endorse or promote products derived from this software without specific prior written permission"},
	{"BSD-2-Clause", "redistributions in binary form must reproduce the above copyright notice"},
	{"ISC", "permission to use, copy, modify, and/or distribute this software for any purpose with or without fee"},
	{"ISC", "permission to use, copy, modify, and distribute this software for any purpose with or without fee"},
	{"MIT", "permission is hereby granted, free of charge, to any person obtaining a copy"},
}

// byFile are licences whose terms end at the files that are under them. They may be in the
// program in modules that are named here, unchanged; notices tell where their source is.
var byFile = []struct{ module, id, words string }{
	{"layeh.com/radius", "MPL-2.0", "mozilla public license version 2.0"},
}

// addLicence adds the text of a file, which must be of a licence that may be in the program
// unless its name says that it is something else.
func (m *module) addLicence(name, text string) error {
	if !supplement.MatchString(name) {
		ids := m.identify(text)
		if len(ids) == 0 {
			return fmt.Errorf("the licence in %s is not one of those that may be in the program", name)
		}
		for _, id := range ids {
			if !slices.Contains(m.licences, id) {
				m.licences = append(m.licences, id)
			}
		}
	}
	if text = strings.TrimSpace(text); !slices.Contains(m.texts, text) {
		m.texts = append(m.texts, text)
	}
	return nil
}

// identify finds the licences that a text consists of.
func (m *module) identify(text string) []string {
	text = strings.Join(strings.Fields(strings.ToLower(text)), " ")
	for _, l := range byFile {
		if strings.Contains(text, l.words) {
			if l.module == m.path {
				return []string{l.id}
			}
			return nil
		}
	}
	if strings.Contains(text, "general public license") {
		return nil
	}
	var ids []string
	for _, l := range permissive {
		// The words of the two clauses are in the text of three, too.
		if strings.Contains(text, l.words) && !slices.Contains(ids, l.id) && !(l.id == "BSD-2-Clause" && slices.Contains(ids, "BSD-3-Clause")) {
			ids = append(ids, l.id)
		}
	}
	return ids
}

// notices is the file that goes with a program: who has rights in it, and by what terms.
func notices(version string, t target, modules []module) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "Software of others that is part of martlet %s for %s.\nMartlet itself is under the Apache License 2.0: see the file LICENSE.\n", version, t.name())
	for _, m := range modules {
		name := m.path
		if name == standardLibrary {
			name = "The Go standard library"
		}
		fmt.Fprintf(&b, "\n%s\n%s %s (%s)\n", strings.Repeat("=", 80), name, m.version, strings.Join(m.licences, ", "))
		for _, l := range byFile {
			if l.module == m.path {
				fmt.Fprintf(&b, "Unchanged; its source is had by: go mod download %s@%s\n", m.path, m.version)
			}
		}
		for _, text := range m.texts {
			fmt.Fprintf(&b, "%s\n%s\n", strings.Repeat("-", 80), text)
		}
	}
	return []byte(b.String())
}
