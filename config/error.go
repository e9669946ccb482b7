package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"martlet/crypto/pki"
)

// Error is one fault of a configuration. Load returns all of them, as Errors.
type Error struct {
	// File is the file, or where else the value came from: "environment MARTLET_NODE_MTU",
	// "environment" for what is missing in a table that variables began, or "--set". It is
	// empty where the Config was built by hand.
	File   string
	Line   int    // from 1; 0 where the fault has no line
	Column int    // in characters, from 1; 0 where the fault has no line
	Key    string // dotted, as connection.office.local.secret
	Reason string
	Hint   string
}

// Error gives one line: file:line:column: key: reason (hint: what to do).
func (e *Error) Error() string {
	var b strings.Builder
	switch {
	case e.File != "" && e.Line > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", e.File, e.Line, e.Column)
	case e.File == fromFlag && e.Key != "":
		b.WriteString(e.File + " ") // --set KEY
	case e.File != "":
		b.WriteString(e.File + ": ")
	default:
		b.WriteString("config: ")
	}
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Reason)
	if e.Hint != "" {
		b.WriteString(" (hint: " + e.Hint + ")")
	}
	return b.String()
}

// Errors is every fault of a configuration: those of the file in the order of lines, then those
// of variables and flags. It is never empty.
type Errors []*Error

// Error gives a line for each fault.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, fault := range e {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the faults, for errors.AsType[*Error].
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, fault := range e {
		all[i] = fault
	}
	return all
}

// Warning is something weak that the file asks for by name.
type Warning struct {
	File string // as Error.File
	Line int    // 0 where it is not of the file
	Key  string
	Text string
}

// String gives one line: file:line: warning: key: text.
func (w Warning) String() string {
	at := w.File
	if w.Line > 0 {
		at = fmt.Sprintf("%s:%d", at, w.Line)
	}
	return strings.TrimPrefix(at+": warning: "+w.Key+": "+w.Text, ": ")
}

// position is a place in the file; both count from 1, the column in characters. For what came
// from elsewhere from says where, as Error.File does, and the two are 0.
type position struct {
	line, column int
	from         string
}

// fromFlag and fromVariables are what position.from is, or begins with.
const (
	fromFlag      = "--set"
	fromVariables = "environment"
)

// origin is what a Config came from, and where each key stands in it.
type origin struct {
	file string
	dir  string // where relative paths in the file start
	at   map[string]position
	// files reads those that it names; nil is this process by itself.
	files Files
}

// folder returns where a relative path that a key holds starts: at the folder of the file, and
// for what came from elsewhere, or from nowhere, at the current one, which is "".
func (o *origin) folder(key string) string { return o.folderOf(o.find(key)) }

func (o *origin) folderOf(at position) string {
	if o == nil || at.from != "" {
		return ""
	}
	return o.dir
}

// find returns the position of a key, or else of the nearest table around it.
func (o *origin) find(key string) position {
	for o != nil && key != "" {
		if p, ok := o.at[key]; ok {
			return p
		}
		key = parent(key)
	}
	return position{}
}

// compare puts the file before variables, and those before flags.
func (o *origin) compare(a, b string) int {
	rank := func(source string) int {
		switch {
		case source == fromFlag:
			return 2
		case o == nil || source != o.file:
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a, b))
}

// source names what a position is in, for Error.File.
func (o *origin) source(at position) string {
	if at.from == "" && o != nil {
		return o.file
	}
	return at.from
}

// faults gathers what is wrong with a Config.
type faults struct {
	origin   *origin // nil for a Config built by hand
	errs     Errors
	more     int // beyond maxFaults
	warnings []Warning
	// spoilt are keys and tables that are there, but misspelt or of another type: that is a
	// fault already, and what is in them is not known.
	spoilt map[string]bool
}

// maxFaults bounds the faults that are listed: nobody reads more.
const maxFaults = 500

// add notes a fault of a key.
func (f *faults) add(key, reason, hint string) { f.addAt(f.origin.find(key), key, reason, hint) }

func (f *faults) addAt(at position, key, reason, hint string) {
	if len(f.errs) == maxFaults {
		f.more++
		return
	}
	e := &Error{Line: at.line, Column: at.column, Key: key, Reason: reason, Hint: hint}
	e.File = f.origin.source(at)
	f.errs = append(f.errs, e)
}

func (f *faults) warn(key, text string) {
	at := f.origin.find(key)
	f.warnings = append(f.warnings, Warning{File: f.origin.source(at), Line: at.line, Key: key, Text: text})
}

// fault notes an error with its hint.
func (f *faults) fault(path string, err error) {
	reason, hint := split(err)
	f.add(path, reason, hint)
}

// has says whether a fault was noted of a key or of something within it, or the table
// around it is spoilt; what follows from that need not be said.
func (f *faults) has(key string) bool {
	if len(f.spoilt) > 0 {
		for k := key; k != ""; k = parent(k) {
			if f.spoilt[k] {
				return true
			}
		}
	}
	return slices.ContainsFunc(f.errs, func(e *Error) bool {
		rest, ok := strings.CutPrefix(e.Key, key)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// err returns the faults in the order of Errors, nil if there are none.
func (f *faults) err() error {
	if len(f.errs) == 0 {
		return nil
	}
	slices.SortStableFunc(f.errs, func(a, b *Error) int {
		return cmp.Or(f.origin.compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if f.more > 0 {
		return append(f.errs, &Error{File: f.errs[0].File, Reason: fmt.Sprintf("and %d more faults", f.more)})
	}
	return f.errs
}

// join appends a key to a dotted path, quoted where TOML wants it quoted.
func join(path, key string) string {
	if !isBare(key) {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// index appends the place in a list, from 0, to a path.
func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// parent cuts the last key or index off a path.
func parent(path string) string {
	quoted := false
	cut := 0
	for i := range len(path) {
		switch path[i] {
		case '\\':
			// Only within quotes; the quote behind it does not end them.
			continue
		case '"':
			if i == 0 || path[i-1] != '\\' || escapedBackslash(path, i-1) {
				quoted = !quoted
			}
		case '.', '[':
			if !quoted {
				cut = i
			}
		}
	}
	return path[:cut]
}

// escapedBackslash says whether the backslash at i is itself escaped.
func escapedBackslash(s string, i int) bool {
	n := 0
	for i >= 0 && s[i] == '\\' {
		n, i = n+1, i-1
	}
	return n%2 == 0
}

func isBare(key string) bool {
	return key != "" && !strings.ContainsFunc(key, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	})
}

// problem is an error with a hint.
type problem struct{ reason, hint string }

func hinted(reason, hint string) error { return &problem{reason, hint} }

func (p *problem) Error() string {
	if p.hint == "" {
		return p.reason
	}
	return p.reason + " (hint: " + p.hint + ")"
}

// split returns what an error says and, apart, its hint.
func split(err error) (reason, hint string) {
	if p, ok := errors.AsType[*problem](err); ok {
		return p.reason, p.hint
	}
	if e, ok := errors.AsType[*pki.CertError](err); ok {
		if e.Why == "" {
			return e.What, e.Hint
		}
		return e.What + ": " + e.Why, e.Hint
	}
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	for _, pkg := range []string{"pki: ", "suite: "} {
		text = strings.ReplaceAll(text, pkg, "")
	}
	return text, ""
}
