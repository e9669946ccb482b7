package profile

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxPlist bounds how deep a property list is nested; a profile needs eight.
const maxPlist = 32

// isPlist tells whether the first element is <plist>.
func isPlist(data []byte) bool {
	data = bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), " \t\r\n")
	return bytes.HasPrefix(data, []byte("<plist")) || bytes.HasPrefix(data, []byte("<?xml")) && bytes.Contains(data[:min(len(data), 2000)], []byte("<plist"))
}

// readPlist reads a property list in XML whose root is a dictionary. The error is an *Error.
func readPlist(data []byte) (map[string]any, error) {
	if !isPlist(data) {
		return nil, &Error{"the profile is no property list in XML", "property lists of other kinds are for programs", "convert it: plutil -convert xml1 FILE"}
	}
	root, err := readXML(data, maxPlist)
	if err != nil {
		return nil, err
	}
	if root.name != "plist" || len(root.in) != 1 {
		return nil, &Error{"the property list cannot be read", "it is not one value within <plist>", "download it again"}
	}
	value, err := root.in[0].plist()
	if err != nil {
		return nil, &Error{"the property list cannot be read", shown(err.Error()), "download it again"}
	}
	all, ok := value.(map[string]any)
	if !ok {
		return nil, &Error{"the property list is no configuration profile", "it has no dictionary", ""}
	}
	return all, nil
}

// plist is the value of an element: a string, an int64, a float64, a bool, octets, a list or a
// dictionary. A date is its text.
func (e *element) plist() (any, error) {
	text := strings.TrimSpace(e.text.String())
	switch e.name {
	case "string":
		return e.text.String(), nil
	case "date":
		return text, nil
	case "true", "false":
		return e.name == "true", nil
	case "integer":
		return strconv.ParseInt(text, 10, 64)
	case "real":
		return strconv.ParseFloat(text, 64)
	case "data":
		return decode64(text)
	case "array":
		list := []any{}
		for _, sub := range e.in {
			value, err := sub.plist()
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		return list, nil
	case "dict":
		all := map[string]any{}
		for i := 0; i < len(e.in); i += 2 {
			if e.in[i].name != "key" || i+1 == len(e.in) {
				return nil, errors.New("a dictionary has a value without a key, or a key without a value")
			}
			value, err := e.in[i+1].plist()
			if err != nil {
				return nil, err
			}
			all[e.in[i].text.String()] = value
		}
		return all, nil
	}
	return nil, fmt.Errorf("%s is no value", quoted(e.name))
}

// dict is a dictionary of a property list to write, in order.
type dict []entry

type entry struct {
	key   string
	value any // string, int, []byte, []any or dict
}

const plistHead = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
`

// encodePlist writes a property list in XML. The error is for texts that XML has no way to write.
func encodePlist(root dict) ([]byte, error) {
	var b strings.Builder
	b.WriteString(plistHead)
	if err := writePlist(&b, root, ""); err != nil {
		return nil, err
	}
	b.WriteString("</plist>\n")
	return []byte(b.String()), nil
}

func writePlist(b *strings.Builder, value any, indent string) error {
	switch v := value.(type) {
	case string:
		text, err := escapeXML(v)
		fmt.Fprintf(b, "%s<string>%s</string>\n", indent, text)
		return err
	case int:
		fmt.Fprintf(b, "%s<integer>%d</integer>\n", indent, v)
	case []byte:
		fmt.Fprintf(b, "%s<data>\n", indent)
		for text := base64.StdEncoding.EncodeToString(v); text != ""; {
			line := text[:min(len(text), 64)]
			text = text[len(line):]
			b.WriteString(indent + line + "\n")
		}
		fmt.Fprintf(b, "%s</data>\n", indent)
	case []any:
		fmt.Fprintf(b, "%s<array>\n", indent)
		for _, element := range v {
			if err := writePlist(b, element, indent+"\t"); err != nil {
				return err
			}
		}
		fmt.Fprintf(b, "%s</array>\n", indent)
	case dict:
		fmt.Fprintf(b, "%s<dict>\n", indent)
		for _, e := range v {
			fmt.Fprintf(b, "%s\t<key>%s</key>\n", indent, e.key)
			if err := writePlist(b, e.value, indent+"\t"); err != nil {
				return err
			}
		}
		fmt.Fprintf(b, "%s</dict>\n", indent)
	}
	return nil
}

// escapeXML writes a text between tags. XML has no control characters but three, which a reader
// would take for other white space if they stood there as they are.
func escapeXML(text string) (string, error) {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsControl(r) && !strings.ContainsRune("\t\n\r", r) || r == 0xfffe || r == 0xffff
	}) {
		return "", fmt.Errorf("%s has characters that XML cannot write", quoted(text))
	}
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "\t", "&#9;", "\n", "&#10;", "\r", "&#13;").Replace(text), nil
}
