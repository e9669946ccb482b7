package profile

import (
	"bytes"
	"encoding/xml"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"howett.net/plist"
)

// TestXMLIsRefused has what is no XML, or is XML that no profile needs.
func TestXMLIsRefused(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", "no element"},
		{"<a>", "ends within an element"},
		{"<a", "broken"},
		{"<a></b>", "closed"},
		{"</a>", "closed"},
		{"<a/><b/>", "two outer"},
		{"a<a/>", "outside"},
		{"<a/>a", "outside"},
		{"<a>&b;</a>", "reference"},
		{"<a>&lt</a>", "reference"},
		{"<a>&#0;</a>", "reference"},
		{"<a>&#x110000;</a>", "reference"},
		{"<a>&#xd800;</a>", "reference"},
		{"<a b=c/>", "attribute"},
		{`<a b="c" b="d"/>`, "attribute"},
		{`<a b="c"d="e"/>`, "broken"},
		{`<a b="<"/>`, "attribute"},
		{"<a>]]></a>", "]]>"},
		{"<a><!-- -- --></a>", "comment"},
		{"<a><!----->", "comment"},
		{"<a>\x01</a>", "character"},
		{"<a>\xff</a>", "UTF-8"},
		{`<!DOCTYPE a [<!ENTITY b "c">]><a/>`, "document type"},
		{`<?xml version="1.0" encoding="ISO-8859-1"?><a/>`, "UTF-8"},
		{`<?xml version="1.1"?><a/>`, "1.0"},
		{"<a><?php ?></a>", "instruction"},
		{strings.Repeat("<a>", 5), "nested"},
		{"<a>" + strings.Repeat("<b/>", maxElements) + "</a>", "too many"},
	} {
		_, err := readXML([]byte(test.text), 4)
		if err == nil {
			t.Errorf("%q is taken", shown(test.text))
			continue
		}
		contains(t, err.Error(), test.want)
	}
}

func TestXMLIsRead(t *testing.T) {
	root, err := readXML([]byte("\ufeff<?xml version=\"1.0\" encoding='UTF-8'?>\r\n<!DOCTYPE a SYSTEM \"a.dtd\">\n<!-- a comment -->\n<a b = 'c&quot;'>x<c>1</c>&#x41;\r\n<![CDATA[<&]]><c>2</c></a>\n"), 4)
	if err != nil {
		t.Fatal(err)
	}
	if root.attributes["b"] != `c"` || root.text.String() != "xA\n<&" || len(root.all("c")) != 2 || root.at("c") != "1" || root.at("d", "e") != "" {
		t.Errorf("%+v", root)
	}
}

// xmlSeeds are the samples in XML.
func xmlSeeds(f *testing.F) {
	f.Helper()
	for _, pattern := range []string{"testdata/*/*.mobileconfig", "testdata/*/*.xml"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Add([]byte("<a b='c'>x<c>1</c>&#x41;<![CDATA[<&]]></a>"))
	f.Add([]byte("<plist><dict><key>a</key><array><true/><integer>-1</integer><data>AAA=</data><real>1.5</real></array></dict></plist>"))
}

// FuzzXML: what is read is XML for Go's reader too, and the same.
func FuzzXML(f *testing.F) {
	xmlSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		root, err := readXML(data, 40)
		if err != nil {
			return
		}
		dec := xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
		var open []*element
		other := &element{}
		open = append(open, other)
		for {
			token, err := dec.Token()
			if token == nil {
				if err != nil && err.Error() != "EOF" {
					t.Fatalf("%v in %q", err, data)
				}
				break
			}
			top := open[len(open)-1]
			switch x := token.(type) {
			case xml.StartElement:
				e := &element{name: x.Name.Local, attributes: map[string]string{}}
				for _, a := range x.Attr {
					e.attributes[a.Name.Local] = a.Value
				}
				top.in = append(top.in, e)
				open = append(open, e)
			case xml.EndElement:
				open = open[:len(open)-1]
			case xml.CharData:
				if len(open) > 1 {
					top.text.Write(x)
				}
			}
		}
		if len(other.in) != 1 || !sameElement(root, other.in[0]) {
			t.Errorf("%q is read in another way", data)
		}
	})
}

func sameElement(a, b *element) bool {
	if a.name != b.name || !reflect.DeepEqual(a.attributes, b.attributes) || a.text.String() != b.text.String() || len(a.in) != len(b.in) {
		return false
	}
	for i := range a.in {
		if !sameElement(a.in[i], b.in[i]) {
			return false
		}
	}
	return true
}

// FuzzPlist: what is read is a property list for the usual library too, and the same.
func FuzzPlist(f *testing.F) {
	xmlSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		mine, err := readPlist(data)
		if err != nil {
			return
		}
		var other any
		if _, err := plist.Unmarshal(data, &other); err != nil {
			return // it has rules of its own, as for dates
		}
		if !samePlist(mine, other) {
			t.Errorf("%q is read as %v and not %v", data, mine, other)
		}
	})
}

// samePlist compares what the two readers make of a value.
func samePlist(mine, other any) bool {
	switch y := other.(type) {
	case map[string]any:
		x, ok := mine.(map[string]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for k := range y {
			if !samePlist(x[k], y[k]) {
				return false
			}
		}
		return true
	case []any:
		x, ok := mine.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range y {
			if !samePlist(x[i], y[i]) {
				return false
			}
		}
		return true
	case uint64:
		n, ok := mine.(int64)
		return ok && uint64(n) == y
	case time.Time:
		_, ok := mine.(string)
		return ok
	case float64:
		x, ok := mine.(float64)
		return ok && (x == y || x != x && y != y)
	case []byte:
		x, ok := mine.([]byte)
		return ok && bytes.Equal(x, y)
	}
	return reflect.DeepEqual(mine, other)
}
