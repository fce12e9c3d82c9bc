package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

const (
	knownFile  = "etc/clients/known-failures"
	reportFile = "etc/clients/%s.md" // of a suite
)

// known reads what fails and why: a suite, a test, and after a tab the reason.
func known() (map[string]string, error) {
	f, err := os.Open(knownFile)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	reasons := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		test, reason, ok := strings.Cut(lines.Text(), "\t")
		if strings.HasPrefix(test, "#") || test == "" {
			continue
		}
		if !ok {
			return nil, fmt.Errorf("%s: %q has no reason after a tab", knownFile, test)
		}
		reasons[test] = reason
	}
	return reasons, lines.Err()
}

func (r result) key() string { return r.suite + " " + r.name }

// conclude holds results against what is known, and writes them down if they are
// complete.
func conclude(results []result, complete bool) error {
	reasons, err := known()
	if err != nil {
		return err
	}
	var unknown, mended []string
	for _, r := range results {
		_, is := reasons[r.key()]
		switch {
		case r.state == failed && !is:
			fmt.Printf("FAILED %s\n%s\n", r.key(), r.output)
			unknown = append(unknown, r.key())
		case r.state == passed && is:
			mended = append(mended, r.key())
		}
	}
	if err := printTable(os.Stdout, results); err != nil {
		return err
	}
	for _, s := range suites {
		of := slices.DeleteFunc(slices.Clone(results), func(r result) bool { return r.suite != s.name })
		if !complete || len(of) == 0 {
			continue
		}
		if err := writeReport(s, of, reasons); err != nil {
			return err
		}
	}
	var errs []error
	if len(unknown) > 0 {
		errs = append(errs, fmt.Errorf("failed, and %s does not know why:\n\t%s", knownFile, strings.Join(unknown, "\n\t")))
	}
	if len(mended) > 0 {
		errs = append(errs, fmt.Errorf("passed, though %s has them:\n\t%s", knownFile, strings.Join(mended, "\n\t")))
	}
	return errors.Join(errs...)
}

// printTable counts results by suite and group.
func printTable(w *os.File, results []result) error {
	type row struct{ passed, failed, skipped int }
	rows := map[string]*row{}
	var order []string
	for _, r := range results {
		key := r.suite + " | " + r.group
		if rows[key] == nil {
			rows[key] = &row{}
			order = append(order, key)
		}
		switch r.state {
		case passed:
			rows[key].passed++
		case failed:
			rows[key].failed++
		case skipped:
			rows[key].skipped++
		}
	}
	slices.Sort(order)
	text := "| client | tests of | pass | fail | skipped |\n|---|---|--:|--:|--:|\n"
	for _, key := range order {
		text += fmt.Sprintf("| %s | %d | %d | %d |\n", key, rows[key].passed, rows[key].failed, rows[key].skipped)
	}
	_, err := w.WriteString(text)
	return err
}

// writeReport writes the table of a suite, what fails and why, and all that passes.
func writeReport(s suite, results []result, reasons map[string]string) error {
	f, err := os.Create(fmt.Sprintf(reportFile, s.name))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	fmt.Fprintf(f, "# What passes: %s\n\nWritten by `make test-clients`, against slipwayd with real guests. Skipped is what a client\n"+
		"leaves out by itself, mostly for services that are not here.\n\n", s.title)
	if err := printTable(f, results); err != nil {
		return err
	}
	fmt.Fprint(f, "\n## What fails\n\n| test | reason |\n|---|---|\n")
	for _, r := range results {
		if r.state == failed {
			fmt.Fprintf(f, "| `%s` | %s |\n", r.name, reasons[r.key()])
		}
	}
	fmt.Fprint(f, "\n## What passes\n")
	group := ""
	for _, r := range results {
		if r.state == passed {
			if r.group != group {
				group = r.group
				fmt.Fprintf(f, "\n%s:\n\n", group)
			}
			fmt.Fprintf(f, "- `%s`\n", r.name)
		}
	}
	return f.Close()
}
