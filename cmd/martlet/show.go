package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"martlet/config"
	"martlet/config/store"
	"martlet/crypto/pki"
)

// profileShown is a profile with everything in it but secrets.
type profileShown struct {
	listed
	Files []shownFile `json:"files"`
	Text  string      `json:"text"` // the configuration; [redacted] stands for secrets
}

// shownFile is a file of the profile beside its configuration.
type shownFile struct {
	Name         string             `json:"name"`
	Certificates []shownCertificate `json:"certificates,omitempty"`
}

type shownCertificate struct {
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
}

func newShow() *cobra.Command {
	var folder string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a profile without its secrets",
		Long: `Show prints where a profile is from, its files with the subjects of certificates and the days on
which they expire, and its configuration. [redacted] stands for each secret.`,
		Example:           "  martlet show office\n  martlet show office --json | jq .files",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeProfile(&folder),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, p, err := findProfile(folder, args[0])
			if err != nil {
				return err
			}
			s := profileShown{Files: []shownFile{}}
			s.listed, _ = describe(cmd.Context(), p)
			if err := s.read(p); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), s)
			}
			s.print(cmd.OutOrStdout(), time.Now())
			return nil
		},
	}
	profilesFlag(cmd, &folder)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// read reads the configuration and the files of a profile.
func (s *profileShown) read(p *store.Profile) error {
	text, err := os.ReadFile(p.Path())
	if err != nil {
		return unreadable(p.Path(), err)
	}
	if text, err = config.Redact(text); err != nil {
		return &store.Error{What: "the profile " + p.Name + " cannot be shown", Why: err.Error(), Hint: "martlet check " + p.Name + " tells where its fault is"}
	}
	s.Text = string(text)
	names, err := p.Files()
	if err != nil {
		return err
	}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(p.Folder, name))
		if err != nil {
			return unreadable(name, err)
		}
		f := shownFile{Name: name}
		if certs, err := pki.ParseCertificates(data); err == nil {
			for _, c := range certs {
				f.Certificates = append(f.Certificates, shownCertificate{pki.DN(c.RawSubject).String(), c.NotAfter})
			}
		}
		s.Files = append(s.Files, f)
	}
	return nil
}

func (s *profileShown) print(w io.Writer, now time.Time) {
	fmt.Fprintf(w, "%s: %s\n", s.Name, s.from())
	if s.Origin != nil && s.Origin.File != "" {
		fmt.Fprintf(w, "  imported from %s\n", s.Origin.File)
	}
	if s.Origin != nil && s.Origin.Signed != "" {
		fmt.Fprintf(w, "  %s\n", s.Origin.Signed)
	}
	if s.Fault != "" {
		fmt.Fprintf(w, "  it has a fault: %s\n", s.Fault)
	}
	for _, c := range s.Connections {
		state := "down"
		if c.Up {
			state = "up"
		}
		fmt.Fprintf(w, "  %s is %s\n", c.Name, state)
	}
	fmt.Fprintf(w, "\n%s\n", s.File)
	for _, f := range s.Files {
		fmt.Fprintf(w, "  %s\n", f.Name)
		for _, c := range f.Certificates {
			until := "valid until " + stamp(c.NotAfter)
			if now.After(c.NotAfter) {
				until = "expired " + stamp(c.NotAfter)
			}
			fmt.Fprintf(w, "    %s, %s\n", c.Subject, until)
		}
	}
	fmt.Fprintf(w, "\n%s\n", strings.TrimRight(s.Text, "\n"))
}
