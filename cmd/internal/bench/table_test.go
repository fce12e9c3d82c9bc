package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	var out strings.Builder
	table := newTable(&out)
	fmt.Fprintln(table, "\nuntil it ends\tmedian\tratio\t")
	fmt.Fprintf(table, "%s\t%.1f s\t%.2f\t\n", "slow", 10.0, 1.0)
	fmt.Fprintln(table, "\t\t\t")
	fmt.Fprintln(table, "\tµ\t")
	fmt.Fprintln(table, "one\tµs\t")
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	want := `
| until it ends | median | ratio |
|---------------|-------:|------:|
| slow          | 10.0 s |  1.00 |

|     |   µ |
|-----|----:|
| one |  µs |
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
