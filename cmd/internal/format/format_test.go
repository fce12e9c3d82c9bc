package format

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "rewrite the golden files")

type named string

var (
	columns = []string{"ID", "Name", "VCPUs", "Ready", "Note"}
	rows    = [][]any{
		{"1", "web", 2, true, nil},
		{"22", named("a longer name"), 10, false, "line one\nline two"},
		{"3", "grüße 日本", 0, true, ""},
	}
	fields = []string{"name", "created", "vcpus", "timeout", "ports", "metadata", "image", "error", "title"}
	values = []any{
		"web", time.Date(2026, 11, 22, 7, 0, 0, 5, time.FixedZone("", 3600)), uint64(2), 90 * time.Second,
		[]int{80, 443}, map[string]string{"b": "two", "a": "one"}, (*string)(nil), errors.New("broken"), "\x1b]0;owned\a <&>",
	}
)

func golden(t *testing.T, name string, show func(*bytes.Buffer) error) {
	t.Helper()
	var b bytes.Buffer
	if err := show(&b); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("printed\n%s\nwant (%s)\n%s", b.String(), path, want)
	}
}

// The files list.* and one.* with columns and rows as above were compared with
// what cliff 4.0, the openstack client's library, prints.
func TestGolden(t *testing.T) {
	for _, f := range formats {
		o := Options{Format: f}
		golden(t, "list."+f, func(b *bytes.Buffer) error { return List(b, o, columns, rows) })
		golden(t, "empty."+f, func(b *bytes.Buffer) error { return List(b, o, columns, nil) })
		golden(t, "one."+f, func(b *bytes.Buffer) error { return Show(b, o, columns, rows[1]) })
		golden(t, "values."+f, func(b *bytes.Buffer) error { return Show(b, o, fields, values) })
		golden(t, "valuelist."+f, func(b *bytes.Buffer) error { return List(b, o, fields, [][]any{values}) })
	}
}

func TestOptions(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string // the list in the format "value"; otherwise in the format given
	}{
		{"columns keep their order", []string{"-c", "Name", "-c", "ID"}, "1 web\n22 a longer name\n3 grüße 日本\n"},
		{"sorted by number", []string{"-c", "VCPUs", "--sort-column", "VCPUs"}, "0\n2\n10\n"},
		{"descending", []string{"-c", "ID", "--sort-column", "VCPUs", "--sort-descending"}, "22\n1\n3\n"},
		{"by two columns", []string{"-c", "ID", "--sort-column", "Ready", "--sort-column", "Name"}, "22\n3\n1\n"},
		{"none last", []string{"-c", "ID", "--sort-column", "Note"}, "3\n22\n1\n"},
		{"on one line", []string{"-f", "json", "--noindent", "-c", "ID", "-c", "Ready"}, `[{"ID":"1","Ready":true},{"ID":"22","Ready":false},{"ID":"3","Ready":true}]` + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
			var o Options
			o.AddListFlags(fs)
			if err := fs.Parse(append([]string{"-f", "value"}, tt.args...)); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := List(&b, o, columns, rows); err != nil {
				t.Fatal(err)
			}
			if b.String() != tt.want {
				t.Errorf("printed\n%s\nwant\n%s", b.String(), tt.want)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	var b bytes.Buffer
	for _, tt := range []struct {
		err  error
		want string
	}{
		{List(&b, Options{Columns: []string{"ID", "id"}}, columns, rows), `no column "id"; there are: ID, Name, VCPUs, Ready, Note`},
		{Show(&b, Options{Columns: []string{"nam"}}, fields, values), `no column "nam"; there are: name, created, `},
		{List(&b, Options{SortColumns: []string{"id"}}, columns, rows), `no column "id" to sort by; there are: ID, `},
		{Show(&b, Options{Format: "xml"}, fields, values), `no format "xml"`},
	} {
		if tt.err == nil || !strings.Contains(tt.err.Error(), tt.want) {
			t.Errorf("error is %v, want %q", tt.err, tt.want)
		}
	}
	if b.Len() > 0 {
		t.Errorf("printed %q besides", b.String())
	}

	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	var o Options
	o.AddFlags(fs)
	if err := fs.Parse([]string{"-f", "xml"}); err == nil || !strings.Contains(err.Error(), "not one of table, json, yaml, value") {
		t.Errorf("-f xml: %v", err)
	}
}

// Printing leaves the caller's rows as they were.
func TestRowsAreLeftAlone(t *testing.T) {
	mine := [][]any{{"b"}, {"a"}}
	if err := List(new(bytes.Buffer), Options{SortColumns: []string{"x"}}, []string{"x"}, mine); err != nil {
		t.Fatal(err)
	}
	if mine[0][0] != "b" {
		t.Errorf("rows are now %v", mine)
	}
}
