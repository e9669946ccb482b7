package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// TestReferenceIsWhole: each key stands there with a comment that begins with its name.
func TestReferenceIsWhole(t *testing.T) {
	text := Reference()
	for _, s := range tables() {
		_, body, ok := strings.Cut(text, "\n["+strings.Join(s.headers, "], [")+"]\n")
		if !ok {
			t.Errorf("no [%s]", s.headers)
			continue
		}
		body, _, _ = strings.Cut(body, "\n[")
		for field := range s.typ.Fields() {
			key := field.Tag.Get("toml")
			if key == "" {
				t.Errorf("%s.%s has no toml tag", s.typ.Name(), field.Name)
			}
			if key == "-" || isTable(field.Type) {
				continue
			}
			entry := regexp.MustCompile(`\n  ` + key + ` = .+\n      ` + key + ` \S.+`)
			if !entry.MatchString(body) {
				t.Errorf("[%s] %s is not documented", s.headers[0], key)
			}
			if def := field.Tag.Get("default"); def != "" && !strings.Contains(body, def) {
				t.Errorf("[%s] %s does not show its default %s", s.headers[0], key, def)
			}
		}
	}
	if reflect.TypeFor[Config]().NumField() == 0 || strings.Contains(text, "toml:") {
		t.Error("tags show in the reference")
	}
}

// TestReadme loads the samples of the README, with the files that they name.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	samples := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(samples) < 3 {
		t.Fatalf("the README has %d samples, want one of each role", len(samples))
	}
	dir := t.TempDir()
	credentials(t, dir)
	write(t, filepath.Join(dir, "branch.psk"), psk+"\n", 0o600)
	for _, sample := range samples {
		c, err := Parse("README.md", []byte(sample[1]), dir, nil)
		if err != nil {
			t.Errorf("%v\nin:\n%s", err, sample[1])
			continue
		}
		if len(c.Connections) != 1 || len(c.Warnings) != 0 {
			t.Errorf("%d connections, warnings %v in:\n%s", len(c.Connections), c.Warnings, sample[1])
		}
	}
}
