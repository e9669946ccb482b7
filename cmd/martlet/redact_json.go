package main

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// json redacts a JSON text, keys and all. Numbers and truth values stay.
func (r *redactor) json(text []byte) (string, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return "", fmt.Errorf("no JSON: %w", err)
	}
	var b bytes.Buffer
	if err := printJSON(&b, r.value("", v)); err != nil {
		return "", err
	}
	return b.String(), nil
}

// value redacts a value that stands below a key.
func (r *redactor) value(key string, v any) any {
	switch v := v.(type) {
	case string:
		if kind, ok := nameKeys[key]; ok {
			return r.is(kind, v)
		}
		return r.text(v)
	case []any:
		out := make([]any, len(v))
		for i, element := range v {
			out[i] = r.value(key, element)
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k, element := range v {
			out[r.words(k)] = r.value(k, element)
		}
		return out
	}
	return v
}
