package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// bill is a bill of materials in CycloneDX 1.6, in the order of its schema.
type bill struct {
	Schema       string       `json:"$schema"`
	Format       string       `json:"bomFormat"`
	SpecVersion  string       `json:"specVersion"`
	SerialNumber string       `json:"serialNumber"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Timestamp  string     `json:"timestamp"`
	Component  component  `json:"component"`
	Properties []property `json:"properties"`
}

type component struct {
	Type     string    `json:"type"`
	Ref      string    `json:"bom-ref"`
	Name     string    `json:"name"`
	Version  string    `json:"version"`
	Hashes   []digest  `json:"hashes,omitempty"`
	Licences []licence `json:"licenses"`
	PURL     string    `json:"purl"`
}

type digest struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type licence struct {
	Licence struct {
		ID string `json:"id"`
	} `json:"license"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn,omitempty"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// bom lists what a program says of itself that it is made of. The modules are those that go list
// names, for their licences; where the two do not agree one of them is wrong, and that is an error.
func (r *release) bom(program string, t target, modules []module) ([]byte, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	octets, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(octets)
	self := newComponent("application", "martlet", r.version, []string{"Apache-2.0"})
	self.Hashes = []digest{{"SHA-256", hex.EncodeToString(sum[:])}}
	b := bill{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6",
		SerialNumber: serial(sum), Version: 1,
		Metadata: metadata{
			Timestamp: r.date.Format(time.RFC3339), Component: self,
			Properties: []property{{"go:version", info.GoVersion}, {"go:os", t.os}, {"go:arch", t.arch}},
		},
	}
	uses := dependency{Ref: self.Ref}
	for _, m := range modules {
		c := newComponent("library", m.path, m.version, m.licences)
		if m.path != standardLibrary {
			i := slices.IndexFunc(info.Deps, func(d *debug.Module) bool { return d.Path == m.path && d.Version == m.version })
			if i < 0 {
				return nil, fmt.Errorf("the program does not say that it has %s %s", m.path, m.version)
			}
			if c.Hashes, err = moduleDigest(info.Deps[i].Sum); err != nil {
				return nil, err
			}
		}
		b.Components = append(b.Components, c)
		b.Dependencies = append(b.Dependencies, dependency{Ref: c.Ref})
		uses.DependsOn = append(uses.DependsOn, c.Ref)
	}
	if len(info.Deps) != len(modules)-1 {
		return nil, fmt.Errorf("the program says that it has %d modules, go list says %d", len(info.Deps), len(modules)-1)
	}
	b.Dependencies = append([]dependency{uses}, b.Dependencies...)
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(b); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func newComponent(kind, name, version string, licences []string) component {
	purl := "pkg:golang/" + name + "@" + strings.ReplaceAll(url.PathEscape(version), "+", "%2B")
	c := component{Type: kind, Ref: purl, Name: name, Version: version, PURL: purl}
	for _, id := range licences {
		var l licence
		l.Licence.ID = id
		c.Licences = append(c.Licences, l)
	}
	return c
}

// moduleDigest is a sum of go.sum, of the names and hashes of all files of a module.
func moduleDigest(sum string) ([]digest, error) {
	octets, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(sum, "h1:"))
	if err != nil || len(octets) != sha256.Size {
		return nil, fmt.Errorf("%q is no sum of a module", sum)
	}
	return []digest{{"SHA-256", hex.EncodeToString(octets)}}, nil
}

// serial is a UUID of its maker's own form (RFC 9562 §5.8), the same for the same program.
func serial(sum [sha256.Size]byte) string {
	u := sum[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
