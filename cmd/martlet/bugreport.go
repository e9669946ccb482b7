package main

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"martlet"
	"martlet/config"
)

func newBugreport() *cobra.Command {
	var where socketFlags
	var output string
	var withNames, force bool
	cmd := &cobra.Command{
		Use:   "bugreport",
		Short: "Gather what somebody who helps wants to know, without secrets and names",
		Long: `Bugreport writes a bundle with the version, the system, the configuration, and, where a martlet
runs, its status, metrics and last lines of log; and with addresses, routes, rules, resolvers and
martlet's own packet filter of this host. It asks nothing and sends nothing: read it, and give it
to whom you like.

No secret is in it. Names of users are replaced, and so are those of hosts, connections and
groups, identities, public addresses, paths and every word that is none of martlet's own; the
same one by the same placeholder, so that alice@example.com is user1@host1 wherever it
stands. With --with-names secrets, users and paths alone are.`,
		Example: "  sudo martlet bugreport -c /etc/martlet/office.toml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f := &facts{}
			f.gather(cmd.Context(), cmd, &where)
			parts := f.redacted(withNames)
			name := cmp.Or(output, "martlet-bugreport-"+time.Now().Format("20060102-150405")+".tar.gz")
			var err error
			if name == "-" {
				err = bundle(cmd.OutOrStdout(), parts, time.Now())
			} else {
				file, failed := createOwn(name, force)
				if failed != nil {
					return failed
				}
				err = save(file, parts, time.Now())
			}
			if err != nil {
				return cannotWrite(err, "is the disk full?")
			}
			tell := cmd.ErrOrStderr()
			for _, p := range parts {
				fmt.Fprintf(tell, "  %-16s %6d octets, %s\n", p.name, len(p.text), p.what)
			}
			fmt.Fprintf(tell, "martlet: all of that is in %s and nowhere else; look at it before you give it away\n", name)
			return nil
		},
	}
	where.add(cmd)
	f := cmd.Flags()
	f.StringVarP(&output, "output", "o", "", "write to `FILE`, which is for its owner only; - is the standard output")
	f.BoolVar(&force, "force", false, "replace a file that is there")
	f.BoolVar(&withNames, "with-names", false, "leave the names of hosts and connections, identities and addresses in it")
	return cmd
}

// fact is what was found out, or why it was not.
type fact struct {
	text []byte
	err  error
}

// facts are all of them, as they are.
type facts struct {
	config      *config.Config // nil: none was named, or it has faults
	configErr   error
	status, log fact
	metrics     fact
	resolv      fact
	host        []hostFact
}

// hostFact is what a program tells of the host.
type hostFact struct {
	file, what string
	fact
}

func (f *facts) gather(ctx context.Context, cmd *cobra.Command, where *socketFlags) {
	socket := where.socket
	if where.file != "" || os.Getenv("MARTLET_CONFIG") != "" {
		if f.config, f.configErr = where.load(cmd); f.config != nil {
			socket = cmp.Or(socket, f.config.Node.Control)
		}
	}
	control := martlet.NewControl(cmp.Or(socket, os.Getenv("MARTLET_NODE_CONTROL"), defaultSocket()))
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	status, err := control.Status(ctx)
	f.status.err = err
	if err == nil {
		f.status.text, f.status.err = json.Marshal(status)
	}
	f.log.text, f.log.err = control.Log(ctx)
	f.metrics.text, f.metrics.err = control.Metrics(ctx)
	f.resolv.text, f.resolv.err = os.ReadFile("/etc/resolv.conf")
	for _, h := range []struct {
		file, what string
		args       []string
	}{
		{"addresses.json", "addresses of this host", []string{"ip", "-j", "addr"}},
		{"routes.json", "its routes by IPv4", []string{"ip", "-j", "route", "show", "table", "all"}},
		{"routes6.json", "its routes by IPv6", []string{"ip", "-6", "-j", "route", "show", "table", "all"}},
		{"rules.json", "its routing rules of IPv4", []string{"ip", "-j", "rule"}},
		{"rules6.json", "its routing rules of IPv6", []string{"ip", "-6", "-j", "rule"}},
	} {
		text, err := outputOf(ctx, h.args...)
		f.host = append(f.host, hostFact{h.file, h.what, fact{text, err}})
	}
	text, err := ourTables(ctx)
	f.host = append(f.host, hostFact{"filter.json", "martlet's own packet filter", fact{text, err}})
}

// part is a file of the bundle.
type part struct{ name, what, text string }

// redacted makes the files. What names there are is known after the first time.
func (f *facts) redacted(withNames bool) []part {
	r := newRedactor(withNames)
	f.parts(r)
	parts := f.parts(r)
	for i := range parts {
		parts[i].text = r.scrub(printable(parts[i].text)) // peers wrote some of it
	}
	return parts
}

func (f *facts) parts(r *redactor) []part {
	system := f.config
	if system == nil {
		system = &config.Config{}
	}
	configuration := "none was named\n"
	switch {
	case f.config != nil:
		configuration = r.config(f.config)
	case f.configErr != nil:
		configuration = r.faults(f.configErr)
	}
	parts := []part{
		{"build.txt", "version and build", buildFacts()},
		{"system.txt", "the system", r.system(system)},
		{"config.toml", "the configuration, redacted", configuration},
		r.part("status.json", "the status", f.status, r.jsonOr),
		r.part("log.txt", "the last lines of the log", f.log, r.log),
		r.part("metrics.txt", "metrics", f.metrics, r.log),
		r.part("resolv.conf", "resolvers of this host", f.resolv, r.resolvers),
	}
	for _, h := range f.host {
		parts = append(parts, r.part(h.file, h.what, h.fact, r.jsonOr))
	}
	return parts
}

// part redacts a fact, or says why there is none.
func (r *redactor) part(name, what string, f fact, redact func(string) string) part {
	if f.err == nil {
		return part{name, what, redact(string(f.text))}
	}
	why := f.err.Error()
	if e, ok := errors.AsType[*martlet.Error](f.err); ok {
		why = e.What + ": " + e.Why
	}
	return part{name, what + ": not available", "not available: " + r.text(why) + "\n"}
}

func (r *redactor) jsonOr(text string) string {
	out, err := r.json([]byte(text))
	if err != nil {
		return r.text(text)
	}
	return out
}

// log redacts lines of text. A program that has a Node inside may log JSON.
func (r *redactor) log(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "{") {
			if out, err := r.json([]byte(line)); err == nil {
				b.WriteString(out)
				continue
			}
		}
		b.WriteString(r.text(line))
	}
	return b.String()
}

// save is bundle to a file, which it closes: some disks say only then that they are full.
func save(file io.WriteCloser, parts []part, now time.Time) error {
	return errors.Join(bundle(file, parts, now), file.Close())
}

// bundle writes the files as an archive, in a folder.
func bundle(w io.Writer, parts []part, now time.Time) error {
	packed := gzip.NewWriter(w)
	archive := tar.NewWriter(packed)
	for _, p := range parts {
		head := &tar.Header{Name: "martlet-bugreport/" + p.name, Mode: 0o600, Size: int64(len(p.text)), ModTime: now, Format: tar.FormatPAX}
		if err := archive.WriteHeader(head); err != nil {
			return err
		}
		if _, err := io.WriteString(archive, p.text); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), packed.Close())
}
