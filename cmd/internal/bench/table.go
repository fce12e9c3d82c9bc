package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// table takes lines of cells that each end in a tab, as text/tabwriter does, and
// prints them in Markdown, so that README's tables are pasted. A line without text
// ends a table; the first line of each is its head.
type table struct {
	w    io.Writer
	text bytes.Buffer
}

func newTable(w io.Writer) *table { return &table{w: w} }

func (t *table) Write(p []byte) (int, error) { return t.text.Write(p) }

// Flush prints the tables.
func (t *table) Flush() error {
	var rows [][]string
	var out bytes.Buffer
	for line := range strings.Lines(t.text.String()) {
		line = strings.TrimSuffix(line, "\n")
		if strings.Trim(line, "\t") != "" {
			rows = append(rows, strings.Split(strings.TrimSuffix(line, "\t"), "\t"))
			continue
		}
		printRows(&out, rows)
		rows = nil
	}
	printRows(&out, rows)
	_, err := t.w.Write(out.Bytes())
	return err
}

func printRows(w io.Writer, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i := range min(len(row), len(widths)) {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]), len("--:"))
		}
	}
	fmt.Fprintln(w)
	for n, row := range rows {
		for i, width := range widths {
			cell := ""
			if i < len(row) {
				cell = row[i]
			}
			if i == 0 {
				fmt.Fprintf(w, "| %-*s |", width, cell)
			} else {
				fmt.Fprintf(w, " %*s |", width, cell)
			}
		}
		fmt.Fprintln(w)
		if n > 0 {
			continue
		}
		for i, width := range widths {
			if i == 0 {
				fmt.Fprintf(w, "|%s|", strings.Repeat("-", width+2))
			} else {
				fmt.Fprintf(w, "%s:|", strings.Repeat("-", width+1))
			}
		}
		fmt.Fprintln(w)
	}
}
