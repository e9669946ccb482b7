package profile

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"martlet/config"
)

// ExportOptions are what Export knows beside the configuration.
type ExportOptions struct {
	// Name is that of the connection to export, after which the files are called.
	Name string
	// Password encrypts a private key that goes into a file: in PKCS#12, or in PKCS#8 where the
	// other program has no PKCS#12. Without one no private key is exported.
	Password string
	// ReadFile reads a file that the connection names and that is not in the Config already: a
	// revocation list. With nil such files are noted, and not exported.
	ReadFile func(name string) ([]byte, error)
	// WithSecrets has pre-shared keys and passwords in the files, that of a private key among
	// them. A note says which.
	WithSecrets bool
}

// String tells what is asked for, without the password.
func (o ExportOptions) String() string {
	return fmt.Sprintf("connection %q, with a password %v, with secrets %v", o.Name, o.Password != "", o.WithSecrets)
}

// GoString is String, so that no password is printed.
func (o ExportOptions) GoString() string { return o.String() }

// Exported is what a connection became. It belongs to the caller.
type Exported struct {
	// Main is the name of the file to begin with.
	Main string
	// Files are the contents by names, which have no folder in them. They are to be written with
	// mode 0600.
	Files map[string][]byte
	// Notes tell where files belong, which secrets are in them, and all that the other program
	// cannot be told. Where one is Needed the profile does not work before that is done.
	Notes []Note
}

// String tells what was exported, without any secret.
func (e Exported) String() string {
	return fmt.Sprintf("%s: %d files, %d notes", e.Main, len(e.Files), len(e.Notes))
}

// GoString is String, so that no secret of Files is printed.
func (e Exported) GoString() string { return e.String() }

// target is a kind of client that profiles are written for.
type target struct {
	name   string // for ExportFormats
	people string // for notes and errors
	can    limits
	write  func(x *exporter) error
}

// targets are all that there are.
func targets() []target {
	return []target{
		{"mobileconfig", "an Apple device", limits{ppk: true}, writeApple},
		{"sswan", "strongSwan for Android", limits{port: true, proofs: true, pinned: true}, writeSswan},
		{"swanctl", "strongSwan", limits{port: true, localPort: true, proofs: true, pinned: true, networks: true, children: true, remotes: true, ppk: true}, writeSwanctl},
		{"ipsec", "strongSwan's ipsec.conf", limits{port: true, proofs: true, pinned: true, networks: true, children: true, remotes: true}, writeIPsec},
		{"networkmanager", "NetworkManager", limits{port: true, pinned: true, networks: true}, writeNM},
		{"powershell", "Windows", limits{}, writePowerShell},
		{"onc", "ChromeOS", limits{}, writeONC},
	}
}

// ExportFormats are the names that Export takes.
func ExportFormats() []string {
	var names []string
	for _, t := range targets() {
		names = append(names, t.name)
	}
	return names
}

// Export writes a connection of c for another client, which then takes the place of this host. c
// is one that config.Load, config.Parse or Complete completed; it is not changed. What would not
// work at all there is an *Error with what to change; what works in another way is a note. The
// names and identifiers in the files follow from the connection's name, its gateway and who we
// are, so that a later export replaces an earlier one.
func Export(c *config.Config, format string, o ExportOptions) (*Exported, error) {
	all := targets()
	i := slices.IndexFunc(all, func(t target) bool { return t.name == format })
	if i < 0 {
		return nil, &Error{"there is no format " + quoted(format), "", "one of " + strings.Join(ExportFormats(), ", ")}
	}
	conn := c.Connections[o.Name]
	if conn == nil {
		return nil, &Error{"there is no connection " + quoted(o.Name), "", "martlet config explain lists those that there are"}
	}
	x := &exporter{
		Exported: &Exported{Files: map[string][]byte{}}, target: all[i], o: o, all: c, c: conn,
		base: plainName(conn.Name), carried: map[string]bool{},
	}
	if x.base == "" {
		x.base = "vpn"
	}
	if err := x.check(); err != nil {
		return nil, err
	}
	if err := x.write(x); err != nil {
		return nil, err
	}
	x.rest()
	return x.Exported, nil
}

// exporter is an export on its way.
type exporter struct {
	*Exported
	target
	o       ExportOptions
	all     *config.Config
	c       *config.Connection
	base    string          // of file names
	carried map[string]bool // keys that the profile says, or a note does
}

// carry marks keys of the connection as said: "local.id", "child.rekey".
func (x *exporter) carry(keys ...string) {
	for _, k := range keys {
		x.carried[k] = true
	}
}

// note marks a key as said, and says it. With an empty key the note is about the whole.
func (x *exporter) note(key, text string, args ...any) { x.add(key, false, text, args...) }

// need is note for what must be done before the profile works.
func (x *exporter) need(key, text string, args ...any) { x.add(key, true, text, args...) }

func (x *exporter) add(at string, needed bool, text string, args ...any) {
	x.carry(at)
	place := pathOf("connection", x.c.Name)
	if at != "" {
		place += "." + at
	}
	n := Note{shown(place), oneLine(fmt.Sprintf(text, args...)), needed}
	if !slices.Contains(x.Notes, n) {
		x.Notes = append(x.Notes, n)
	}
}

// cannot is the error for a connection that would not work there.
func (x *exporter) cannot(why, hint string) *Error {
	return &Error{fmt.Sprintf("connection %s cannot be exported for %s", quoted(x.c.Name), x.people), why, hint}
}

// main adds the file to begin with.
func (x *exporter) main(extension string, data []byte) {
	x.Main = x.base + extension
	x.Files[x.Main] = data
}

// file adds another file, and returns its name: "office-ca.pem".
func (x *exporter) file(what string, data []byte) string {
	name := x.base + "-" + what
	x.Files[name] = data
	return name
}

// uuid is the identifier of one part of the profile (RFC 9562 §5.8): the same for the same
// connection, whatever else of it is changed.
func (x *exporter) uuid(part string) string {
	who := x.c.Local.Identity.String() + "\x00" + x.c.Local.User
	sum := sha256.Sum256([]byte(strings.Join([]string{"martlet", x.name, x.c.Name, strings.Join(x.c.Remote, " "), who, part}, "\x00")))
	id := sum[:16]
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
