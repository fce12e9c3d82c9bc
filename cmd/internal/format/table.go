package format

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// table draws rows under headers, a column to the right where it is marked so.
func table(b *bytes.Buffer, headers []string, rows [][]any, right []bool) {
	cells := make([][][]string, 0, len(rows)+1) // by row and column, the lines
	for _, row := range append([][]any{anys(headers)}, rows...) {
		lines := make([][]string, len(row))
		for i, v := range row {
			lines[i] = strings.Split(printable(human(v)), "\n")
		}
		cells = append(cells, lines)
	}
	widths := make([]int, len(headers))
	for _, row := range cells {
		for i, lines := range row {
			for _, line := range lines {
				widths[i] = max(widths[i], columnsOf(line))
			}
		}
	}

	rule := "+"
	for _, w := range widths {
		rule += strings.Repeat("-", w+2) + "+"
	}
	rule += "\n"
	b.WriteString(rule)
	for i, row := range cells {
		tableRow(b, row, widths, right)
		if i == 0 {
			b.WriteString(rule)
		}
	}
	b.WriteString(rule)
}

func tableRow(b *bytes.Buffer, row [][]string, widths []int, right []bool) {
	height := 0
	for _, lines := range row {
		height = max(height, len(lines))
	}
	for n := range height {
		b.WriteByte('|')
		for i, lines := range row {
			line := ""
			if n < len(lines) {
				line = lines[n]
			}
			space := strings.Repeat(" ", widths[i]-columnsOf(line))
			if right[i] {
				b.WriteString(" " + space + line + " |")
			} else {
				b.WriteString(" " + line + space + " |")
			}
		}
		b.WriteByte('\n')
	}
}

func anys(list []string) []any {
	all := make([]any, len(list))
	for i, s := range list {
		all[i] = s
	}
	return all
}

// printable replaces what would disturb a table or a terminal.
func printable(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\r' || r == '\t':
			b.WriteByte(' ')
		case r != '\n' && unicode.IsControl(r):
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// columnsOf is the number of terminal columns that s takes.
func columnsOf(s string) int {
	n := 0
	for _, r := range s {
		switch {
		case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		case width.LookupRune(r).Kind() == width.EastAsianWide, width.LookupRune(r).Kind() == width.EastAsianFullwidth:
			n += 2
		default:
			n++
		}
	}
	return n
}
