package dns

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// maxConf is the longest /etc/resolv.conf that is read, in octets.
const maxConf = 1 << 16

// Owners of /etc/resolv.conf, as its first comment lines tell.
const (
	ownerMartlet    = "martlet"
	ownerResolved   = "systemd-resolved"
	ownerNM         = "NetworkManager"
	ownerResolvconf = "resolvconf"
	ownerUnknown    = "nobody known"
)

// conf is what matters of an /etc/resolv.conf.
type conf struct {
	Owner   string
	Servers []netip.Addr
}

// parseConf reads what it can and passes over the rest, as the resolvers of C libraries do.
func parseConf(content string) conf {
	c := conf{Owner: ownerUnknown}
	begun := false // behind the comments at the beginning
	for line := range strings.SplitSeq(content, "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if line[0] == '#' || line[0] == ';' {
			if !begun && c.Owner == ownerUnknown {
				c.Owner = owner(line)
			}
			continue
		}
		begun = true
		// A comment may stand behind the value: resolvd of OpenBSD writes some.
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			c.Servers = append(c.Servers, a)
		}
	}
	return c
}

func owner(comment string) string {
	if strings.HasPrefix(comment, ourMark) {
		return ownerMartlet
	}
	for _, o := range []string{ownerResolved, ownerNM, ownerResolvconf} {
		if strings.Contains(comment, o) {
			return o
		}
	}
	return ownerUnknown
}

// only tells whether there are servers, all of which are wanted.
func (c conf) only(want func(netip.Addr) bool) bool {
	for _, a := range c.Servers {
		if !want(a) {
			return false
		}
	}
	return len(c.Servers) > 0
}

// resolvConfText is the part of an /etc/resolv.conf that resolvers read.
func resolvConfText(servers []netip.Addr, search []string) string {
	var b strings.Builder
	for _, a := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	if len(search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	return b.String()
}

// Before are the resolvers that a file in the form of resolv.conf(5) names; of one that we wrote, those
// of what was there before. A link in its place is followed, once.
func Before(path string) ([]netip.Addr, error) {
	b, err := readFile(path, maxConf)
	if err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	content := string(b)
	if o, ok := parseOurs(content); ok {
		content = o.Before.Content
		if o.Before.Kind == "link" {
			to := o.Before.Content
			if !filepath.IsAbs(to) {
				to = filepath.Join(filepath.Dir(path), to)
			}
			if b, err = readFile(to, maxConf); err != nil {
				return nil, fmt.Errorf("dns: %w", err)
			}
			content = string(b)
		}
	}
	return parseConf(content).Servers, nil
}

// former is what was at /etc/resolv.conf before us: nothing, a link or a file.
type former struct {
	Kind    string // "none", "link" or "file"
	Content string // of the file, or where the link leads
	Mode    fs.FileMode
}

// ours is an /etc/resolv.conf that we wrote.
type ours struct {
	Device string
	Before former
}

const (
	ourMark   = "# martlet "
	ourReason = "# The resolvers of the tunnel on this device. When it ends, what was here before comes back:\n# it stands below, behind #| on each line.\n"
	kept      = "#| "
)

// text is the whole file. Its first line tells whose it is, what was here before, and a sum of all
// lines after it, so that a file which somebody has edited is not taken for ours.
func (o ours) text(servers []netip.Addr, search []string) string {
	var b strings.Builder
	b.WriteString(ourReason)
	b.WriteString(resolvConfText(servers, search))
	if o.Before.Kind != "none" {
		for line := range strings.SplitSeq(o.Before.Content, "\n") {
			b.WriteString(kept + line + "\n")
		}
	}
	return fmt.Sprintf("%s%s %s %04o %s\n%s", ourMark, o.Device, o.Before.Kind, o.Before.Mode.Perm(), sum(b.String()), b.String())
}

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:8])
}

// parseOurs reads what text wrote. It is false for any other file.
func parseOurs(content string) (ours, bool) {
	first, rest, _ := strings.Cut(content, "\n")
	head, marked := strings.CutPrefix(first, ourMark)
	fields := strings.Split(head, " ")
	if !marked || len(fields) != 4 || fields[3] != sum(rest) || checkDevice(fields[0]) != nil {
		return ours{}, false
	}
	mode, err := strconv.ParseUint(fields[2], 8, 9)
	if err != nil {
		return ours{}, false
	}
	var lines []string
	for line := range strings.Lines(rest) {
		if was, ok := strings.CutPrefix(line, kept); ok {
			lines = append(lines, strings.TrimSuffix(was, "\n"))
		}
	}
	o := ours{fields[0], former{fields[1], strings.Join(lines, "\n"), fs.FileMode(mode)}}
	switch {
	case o.Before.Kind == "none" && lines == nil,
		o.Before.Kind == "link" && len(lines) == 1 && o.Before.Content != "",
		o.Before.Kind == "file" && lines != nil:
		return o, true
	}
	return ours{}, false
}
