package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"martlet/config"
	"martlet/config/store"
)

// listed is a profile as list and show tell of it. It holds no secret.
type listed struct {
	Name        string             `json:"name"`
	File        string             `json:"file"`
	Origin      *store.Origin      `json:"origin,omitempty"` // none of one that was made by hand
	Connections []listedConnection `json:"connections"`
	Up          bool               `json:"up"`              // one of the connections is
	Fault       string             `json:"fault,omitempty"` // why it does not load
}

// listedConnection is one of its connections.
type listedConnection struct {
	Name     string   `json:"name"`
	Gateways []string `json:"gateways"`
	Auth     string   `json:"auth"` // how we prove who we are
	User     string   `json:"user,omitempty"`
	Up       bool     `json:"up"`
}

func newList() *cobra.Command {
	var folder string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the profiles that were imported",
		Long: `List tells of each profile its gateways, how one logs in there, where it is from, and whether
it is up now.`,
		Example: "  martlet list\n  martlet list --json | jq -r '.[].name'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			profiles, err := openStore(folder)
			if err != nil {
				return err
			}
			names, err := profiles.Names()
			if err != nil {
				return err
			}
			all := []listed{}
			for _, name := range names {
				p, err := profiles.Find(name)
				if err != nil {
					all = append(all, listed{Name: name, Connections: []listedConnection{}, Fault: firstLine(err)})
					continue
				}
				l, _ := describe(cmd.Context(), p)
				all = append(all, l)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), all)
			}
			if len(all) == 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "martlet: there are no profiles in %s; martlet import FILE makes one\n", profiles.Folder)
			}
			printList(cmd.OutOrStdout(), all)
			return nil
		},
	}
	profilesFlag(cmd, &folder)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// describe looks at a profile and whether it is up. The configuration is nil where it has faults.
func describe(ctx context.Context, p *store.Profile) (listed, *config.Config) {
	l := listed{Name: p.Name, File: p.Path(), Connections: []listedConnection{}}
	if p.Origin != (store.Origin{}) {
		l.Origin = &p.Origin
	}
	c, err := loadProfile(ctx, p)
	if err != nil {
		l.Fault = firstLine(err)
		return l, nil
	}
	up := upNow(ctx, c)
	l.Up = len(up) > 0
	for _, name := range sortedNames(c) {
		conn := c.Connections[name]
		l.Connections = append(l.Connections, listedConnection{
			Name: name, Gateways: append([]string{}, conn.Remote...), Auth: conn.Local.Auth, User: conn.Local.User, Up: slices.Contains(up, name),
		})
	}
	return l, c
}

func sortedNames(c *config.Config) []string { return slices.Sorted(maps.Keys(c.Connections)) }

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// printList prints a line for each profile, in columns.
func printList(w io.Writer, all []listed) {
	var rows [][]string
	for _, l := range all {
		state := "down"
		if l.Up {
			state = "up"
		}
		row := []string{l.Name, state, "", "", l.from()}
		if l.Fault != "" {
			row[1], row[2] = "faulty", "see martlet check "+l.Name
		} else {
			row[2], row[3] = l.gateways(), l.login()
		}
		rows = append(rows, row)
	}
	var widths [5]int
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&line, "%-*s  ", widths[i], cell)
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// gateways are those of all connections, each once.
func (l *listed) gateways() string {
	var out []string
	for _, c := range l.Connections {
		for _, g := range c.Gateways {
			if !slices.Contains(out, g) {
				out = append(out, g)
			}
		}
	}
	return strings.Join(out, ",")
}

// login is how one proves at all gateways who one is.
func (l *listed) login() string {
	var out []string
	for _, c := range l.Connections {
		how := c.Auth
		if c.User != "" {
			how += " as " + c.User
		}
		if !slices.Contains(out, how) {
			out = append(out, how)
		}
	}
	return strings.Join(out, ", ")
}

func (l *listed) from() string {
	if l.Origin == nil {
		return "made by hand"
	}
	return l.Origin.Imported.Format(time.DateOnly) + " from " + l.Origin.Format
}
