// Package format prints what a command found, in the forms and with the flags of
// the openstack client: a list has a row for each thing and named columns, a show
// has the fields of one thing. The forms are table, json, yaml and value.
//
// A value is whatever Go has for it. Machines (json and yaml) are given null,
// booleans, numbers, lists and maps as such and everything else as text; people
// are given None, True and False, lists with commas and maps as key='value', as
// they know it from the openstack client. What comes from an image or a guest may
// hold control characters, so tables show those escaped.
package format

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Options say how to print; the zero value is a table of all columns.
type Options struct {
	Format      string   // table, json, yaml or value
	Columns     []string // which ones; all when empty. They keep their own order.
	NoIndent    bool     // json on one line
	SortColumns []string // of a list; the first matters most
	Descending  bool
}

var formats = []string{"table", "json", "yaml", "value"}

// AddFlags adds the flags of a command that shows one thing.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	o.Format = cmp.Or(o.Format, formats[0])
	fs.VarP((*formatFlag)(&o.Format), "format", "f", "the output format: "+strings.Join(formats, ", "))
	fs.StringArrayVarP(&o.Columns, "column", "c", nil, "a `column` to include, can be repeated")
	fs.BoolVar(&o.NoIndent, "noindent", false, "do not indent the JSON")
}

// AddListFlags adds the flags of a command that lists things.
func (o *Options) AddListFlags(fs *pflag.FlagSet) {
	o.AddFlags(fs)
	fs.StringArrayVar(&o.SortColumns, "sort-column", nil, "a `column` to sort by, can be repeated")
	fs.BoolVar(&o.Descending, "sort-descending", false, "sort in descending order")
}

type formatFlag string

func (f *formatFlag) String() string { return string(*f) }
func (f *formatFlag) Type() string   { return "format" }

func (f *formatFlag) Set(s string) error {
	if !slices.Contains(formats, s) {
		return fmt.Errorf("not one of %s", strings.Join(formats, ", "))
	}
	*f = formatFlag(s)
	return nil
}

// List prints rows, each of which has a value for each of columns.
func List(w io.Writer, o Options, columns []string, rows [][]any) error {
	rows, err := o.sorted(columns, clean(rows))
	if err != nil {
		return err
	}
	chosen, err := o.chosen(columns)
	if err != nil {
		return err
	}
	columns = pick(columns, chosen)
	for i, row := range rows {
		rows[i] = pick(row, chosen)
	}
	var b bytes.Buffer
	switch o.Format {
	case "", "table":
		if len(rows) > 0 {
			table(&b, columns, rows, numeric(rows[0]))
		} else {
			b.WriteByte('\n')
		}
	case "json":
		err = jsonList(&b, columns, rows, !o.NoIndent)
	case "yaml":
		err = yamlList(&b, columns, rows)
	case "value":
		for _, row := range rows {
			b.WriteString(strings.Join(texts(row), " ") + "\n")
		}
	default:
		return fmt.Errorf("no format %q", o.Format)
	}
	return finish(w, &b, err)
}

// Show prints the values of one thing's fields.
func Show(w io.Writer, o Options, fields []string, values []any) error {
	chosen, err := o.chosen(fields)
	if err != nil {
		return err
	}
	fields, values = pick(fields, chosen), pick(clean([][]any{values})[0], chosen)
	var b bytes.Buffer
	switch o.Format {
	case "", "table":
		rows := make([][]any, len(fields))
		for i, field := range fields {
			rows[i] = []any{field, values[i]}
		}
		table(&b, []string{"Field", "Value"}, rows, make([]bool, 2))
	case "json":
		err = jsonOne(&b, fields, values, !o.NoIndent)
	case "yaml":
		err = yamlOne(&b, fields, values)
	case "value":
		for _, text := range texts(values) {
			b.WriteString(text + "\n")
		}
	default:
		return fmt.Errorf("no format %q", o.Format)
	}
	return finish(w, &b, err)
}

// finish writes all at once, so that an error leaves no half of it.
func finish(w io.Writer, b *bytes.Buffer, err error) error {
	if err == nil {
		_, err = w.Write(b.Bytes())
	}
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// chosen gives the indexes of the columns to print. Names match to the letter and
// the columns keep their order, as the openstack client has it; but a name that
// is unknown is an error even where others are known.
func (o *Options) chosen(columns []string) ([]int, error) {
	for _, name := range o.Columns {
		if !slices.Contains(columns, name) {
			return nil, fmt.Errorf("no column %q; there are: %s", name, strings.Join(columns, ", "))
		}
	}
	var indexes []int
	for i, name := range columns {
		if len(o.Columns) == 0 || slices.Contains(o.Columns, name) {
			indexes = append(indexes, i)
		}
	}
	return indexes, nil
}

func pick[T any](all []T, indexes []int) []T {
	picked := make([]T, len(indexes))
	for i, index := range indexes {
		picked[i] = all[index]
	}
	return picked
}

// sorted orders rows by the columns asked for, with rows that have no value last.
func (o *Options) sorted(columns []string, rows [][]any) ([][]any, error) {
	for _, name := range slices.Backward(o.SortColumns) {
		i := slices.Index(columns, name)
		if i < 0 {
			return nil, fmt.Errorf("no column %q to sort by; there are: %s", name, strings.Join(columns, ", "))
		}
		slices.SortStableFunc(rows, func(a, b []any) int {
			if a[i] == nil || b[i] == nil {
				return cmp.Compare(boolToInt(a[i] == nil), boolToInt(b[i] == nil))
			}
			order := compare(a[i], b[i])
			if o.Descending {
				return -order
			}
			return order
		})
	}
	return rows, nil
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
