package tun

import (
	"strings"
	"testing"
)

// The hint names the file for this processor, which another one does not load.
func TestWintunHint(t *testing.T) {
	for arch, folder := range map[string]string{"amd64": "bin/amd64/", "arm64": "bin/arm64/", "386": "bin/x86/"} {
		hint := wintunHint(arch)
		for _, part := range []string{folder + "wintun.dll", "www.wintun.net", "archive's SHA-256", wintunSHA256} {
			if !strings.Contains(hint, part) {
				t.Errorf("%s: no %s in %s", arch, part, hint)
			}
		}
	}
}
