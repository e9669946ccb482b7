package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxJSON bounds how deep JSON is nested; ChromeOS's needs ten.
const maxJSON = 32

// readJSON reads an object in JSON.
func readJSON(data []byte) (map[string]any, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	dec := json.NewDecoder(bytes.NewReader(data))
	for depth := 0; ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, unreadableJSON(data, dec.InputOffset(), err)
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth > maxJSON {
			return nil, &Error{"the JSON cannot be read", fmt.Sprintf("it is nested more than %d deep", maxJSON), ""}
		}
	}
	var root map[string]any
	if err := json.Unmarshal(data, &root); err != nil {
		return nil, unreadableJSON(data, int64(len(data)), err)
	}
	return root, nil
}

// unreadableJSON is the error for what cannot be read at an offset, unless err knows a better one.
func unreadableJSON(data []byte, at int64, err error) *Error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = syntax.Offset
	}
	return &Error{fmt.Sprintf("the JSON cannot be read at line %d", lineOf(data, at)), shown(err.Error()), "mend it there, or copy the file again"}
}

// lineOf is the line of an offset, from 1.
func lineOf(data []byte, at int64) int {
	return 1 + bytes.Count(data[:max(0, min(at, int64(len(data))))], []byte("\n"))
}

// isObject tells whether data is JSON that begins with an object in which all keys stand.
func isObject(data []byte, keys ...string) bool {
	data = bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), " \t\r\n")
	if !bytes.HasPrefix(data, []byte("{")) {
		return false
	}
	for _, key := range keys {
		if !bytes.Contains(data, []byte(`"`+key+`"`)) {
			return false
		}
	}
	return true
}
