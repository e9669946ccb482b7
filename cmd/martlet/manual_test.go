package main

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"martlet/config"
)

// manualFolder is set by cmd/martlet/dist/release. The manual is made by a test and not by the
// program, which would carry mdoc that nobody needs twice.
var manualFolder = flag.String("manual", "", "write the manual pages of `DATE=FOLDER`, a date such as 2026-11-30")

// TestManual: both pages tell all that the program tells by itself, and mandoc finds nothing wrong
// with them.
func TestManual(t *testing.T) {
	date, folder := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), t.TempDir()
	if *manualFolder != "" {
		var day string
		day, folder, _ = strings.Cut(*manualFolder, "=")
		var err error
		if date, err = time.Parse(time.DateOnly, day); err != nil {
			t.Fatal(err)
		}
	}
	pages := map[string][]byte{
		"martlet.1":      commandsManual(newRoot(nil), date),
		"martlet.toml.5": configurationManual(config.Reference(), date),
	}
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("commands", func(t *testing.T) {
		walk(newRoot(nil), func(cmd *cobra.Command) {
			if completes(cmd) {
				return
			}
			if want := mdoc(cmd.UseLine()); cmd.HasParent() && !bytes.Contains(pages["martlet.1"], []byte(".Ss \""+want)) {
				t.Errorf("the manual has no section %s", want)
			}
			cmd.Flags().VisitAll(func(f *pflag.Flag) {
				if want := `Fl \-` + mdoc(f.Name); f.Name != "help" && !bytes.Contains(pages["martlet.1"], []byte(want)) {
					t.Errorf("the manual has no flag --%s of %s", f.Name, cmd.CommandPath())
				}
			})
		})
		for _, code := range errorCodes() {
			if !bytes.Contains(pages["martlet.1"], []byte(mdoc(code))) {
				t.Errorf("the manual has no code %s", code)
			}
		}
	})
	t.Run("configuration", func(t *testing.T) {
		keys := len(regexp.MustCompile(`(?m)^  [a-z0-9_]+ = `).FindAllString(config.Reference(), -1))
		if got := bytes.Count(pages["martlet.toml.5"], []byte("\n.It Cm ")); got != keys || keys < 100 {
			t.Errorf("the manual has %d keys, the reference %d", got, keys)
		}
	})
	t.Run("mandoc", func(t *testing.T) {
		mandoc, err := exec.LookPath("mandoc")
		if err != nil {
			t.Skip("needs mandoc (Debian: mandoc)")
		}
		for name := range pages {
			out, err := exec.CommandContext(t.Context(), mandoc, "-Tlint", "-Wwarning", filepath.Join(folder, name)).CombinedOutput()
			if err != nil || len(out) > 0 {
				t.Errorf("mandoc -Tlint: %v\n%s", err, out)
			}
		}
	})
}

// completes tells of cobra's commands for single shells.
func completes(cmd *cobra.Command) bool {
	return cmd.HasParent() && cmd.Parent().Name() == "completion"
}

// commandsManual is martlet(1): the help of all commands, and the list of error codes.
func commandsManual(root *cobra.Command, date time.Time) []byte {
	var b bytes.Buffer
	about, status, _ := strings.Cut(root.Long, "Exit status:\n")
	status, codes, _ := strings.Cut(status, "\n\n")
	manualHead(&b, date, "MARTLET 1", "martlet", root.Short)
	b.WriteString(".Sh SYNOPSIS\n.Nm martlet\n.Ar command\n.Op Ar argument ...\n.Sh DESCRIPTION\n")
	manualText(&b, about)
	manualExamples(&b, root)
	b.WriteString(".Sh COMMANDS\n")
	for _, sub := range root.Commands() {
		walk(sub, func(cmd *cobra.Command) {
			if completes(cmd) {
				return
			}
			fmt.Fprintf(&b, ".Ss \"%s\"\n", mdoc(cmd.UseLine()))
			manualText(&b, cmp.Or(cmd.Long, cmd.Short+"."))
			manualFlags(&b, cmd)
			manualExamples(&b, cmd)
		})
	}
	b.WriteString(".Sh EXIT STATUS\n.Bl -tag -width 4n\n")
	for line := range strings.Lines(status) {
		number, meaning, _ := strings.Cut(strings.TrimSpace(line), " ")
		fmt.Fprintf(&b, ".It %s\n%s\n", number, mdoc(strings.TrimSpace(meaning)))
	}
	b.WriteString(".El\n.Sh DIAGNOSTICS\n")
	manualText(&b, codes)
	b.WriteString("The codes are:\n.Bl -tag -width Ds\n")
	for _, code := range errorCodes() {
		summary, _, _ := errorPage(code)
		fmt.Fprintf(&b, ".It Cm %s\n%s (exit status %d).\n", mdoc(code), mdoc(summary), exitOf(code))
	}
	b.WriteString(".El\n.Sh SEE ALSO\n.Xr martlet.toml 5\n")
	return b.Bytes()
}

// configurationManual is martlet.toml(5), from what `martlet config reference` prints: tables at
// the margin, what they are and their keys behind two blanks, and what a key is behind six.
func configurationManual(reference string, date time.Time) []byte {
	var b bytes.Buffer
	manualHead(&b, date, "MARTLET.TOML 5", "martlet.toml", "configuration of martlet")
	intro, tables, _ := strings.Cut(reference, "\n\n[")
	b.WriteString(".Sh DESCRIPTION\n")
	manualText(&b, intro)
	list := false
	for line := range strings.Lines("[" + tables) {
		line = strings.TrimRight(line, "\n")
		key, value, isKey := strings.Cut(strings.TrimPrefix(line, "  "), " = ")
		switch {
		case strings.HasPrefix(line, "["):
			if list {
				b.WriteString(".El\n")
			}
			list = false
			fmt.Fprintf(&b, ".Ss \"%s\"\n", mdoc(line))
		case isKey && !strings.HasPrefix(line, "   "):
			if !list {
				b.WriteString(".Bl -tag -width Ds\n")
			}
			list = true
			fmt.Fprintf(&b, ".It Cm %s = No \"%s\"\n", mdoc(key), mdoc(value))
		case line != "":
			manualSentences(&b, line)
		}
	}
	if list {
		b.WriteString(".El\n")
	}
	b.WriteString(".Sh SEE ALSO\n.Xr martlet 1\n")
	return b.Bytes()
}

func manualHead(b *bytes.Buffer, date time.Time, title, name, what string) {
	fmt.Fprintf(b, ".Dd %s\n.Dt %s\n.Os\n.Sh NAME\n.Nm %s\n.Nd %s\n", date.Format("January 2, 2006"), title, name, mdoc(what))
}

// manualText writes paragraphs; lines that are indented stand as they are.
func manualText(b *bytes.Buffer, text string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if strings.HasPrefix(paragraph, " ") || strings.HasPrefix(paragraph, "\t") {
			literal(b, paragraph)
			continue
		}
		if i > 0 {
			b.WriteString(".Pp\n")
		}
		manualSentences(b, paragraph)
	}
}

var sentenceEnd = regexp.MustCompile(`([.!?][)"]?)\s+`)

// manualSentences begins each sentence on a line of its own, as mdoc wants it.
func manualSentences(b *bytes.Buffer, text string) {
	for line := range strings.Lines(sentenceEnd.ReplaceAllString(strings.TrimSpace(text), "$1\n")) {
		b.WriteString(mdoc(strings.TrimSpace(line)) + "\n")
	}
}

func manualFlags(b *bytes.Buffer, cmd *cobra.Command) {
	list := false
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		if !list {
			b.WriteString(".Bl -tag -width Ds\n")
		}
		list = true
		value, text := pflag.UnquoteUsage(f)
		b.WriteString(".It ")
		if f.Shorthand != "" {
			fmt.Fprintf(b, "Fl %s , ", f.Shorthand)
		}
		fmt.Fprintf(b, `Fl \-%s`, mdoc(f.Name))
		if value != "" {
			fmt.Fprintf(b, " Ar \"%s\"", mdoc(value))
		}
		fmt.Fprintf(b, "\n%s", mdoc(text))
		switch f.DefValue {
		case "", "false", "0", "0s", "[]":
		default:
			fmt.Fprintf(b, "; default %s", mdoc(f.DefValue))
		}
		b.WriteString("\n")
	})
	if list {
		b.WriteString(".El\n")
	}
}

func manualExamples(b *bytes.Buffer, cmd *cobra.Command) {
	if cmd.Example != "" {
		b.WriteString(".Pp\nExamples:\n")
		literal(b, cmd.Example)
	}
}

func literal(b *bytes.Buffer, text string) {
	b.WriteString(".Bd -literal -offset indent\n")
	for line := range strings.Lines(text) {
		b.WriteString(mdoc(strings.TrimSpace(line)) + "\n")
	}
	b.WriteString(".Ed\n")
}

// mdoc escapes what mdoc would take for its own.
func mdoc(text string) string {
	text = strings.NewReplacer(`\`, `\e`, `"`, `\(dq`, "-", `\-`, "…", "...").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
