package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// buildFacts says what this program is and what it was built from.
func buildFacts() string {
	facts, b := version, readBuild()
	if b.revision != "" {
		facts += fmt.Sprintf(" (commit %.12s of %s%s)", b.revision, b.at.Format(time.RFC3339), b.modified)
	}
	return facts + fmt.Sprintf(" %s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// build is what the program was built from, as far as the compiler knew.
type build struct {
	revision, modified string
	at                 time.Time
}

func readBuild() (b build) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			b.revision = s.Value
		case s.Key == "vcs.time":
			b.at, _ = time.Parse(time.RFC3339, s.Value) // zero of what is no time
		case s.Key == "vcs.modified" && s.Value == "true":
			b.modified = ", modified"
		}
	}
	return b
}

// man writes the manual pages.
func (c *cli) man(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "man DIRECTORY", Short: "Write the manual pages into a directory", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root.DisableAutoGenTag = true
			header := &doc.GenManHeader{Section: "1", Source: "Slipway " + version, Manual: "Slipway"}
			if at := readBuild().at; !at.IsZero() {
				header.Date = &at // the same program makes the same pages
			}
			return doc.GenManTree(root, header, args[0])
		},
	}
}
