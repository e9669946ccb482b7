package martlet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
)

// Programs read the status of a Node that does nothing yet, too.
func TestStatusOfAnIdleNode(t *testing.T) {
	text, err := json.Marshal(startNode(t, false, fmt.Sprintf(clientText, "127.0.0.1", 4500)).Status())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"listening":[]`, `"ike_sas":[]`, `"drops":{}`, `"connections":["office"]`} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}
