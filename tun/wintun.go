package tun

import "fmt"

// The archive of Wintun's project with the signed libraries, and its SHA-256 as many who fetch it
// have it noted.
const (
	wintunArchive = "https://www.wintun.net/builds/wintun-0.14.1.zip"
	wintunSHA256  = "07c256185d6ee3652e09fa55c0b673e2624b565e02c4b9091c79ca7d2f24ef51"
)

// wintunHint tells where a program for an architecture, as GOARCH calls it, finds wintun.dll.
func wintunHint(arch string) string {
	if arch == "386" {
		arch = "x86"
	}
	return fmt.Sprintf("put wintun.dll beside this program: the signed one of the Wintun project, wintun/bin/%s/wintun.dll in %s (the archive's SHA-256 is %s)",
		arch, wintunArchive, wintunSHA256)
}
