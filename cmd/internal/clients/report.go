package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	knownFile  = "etc/clients/known-failures"
	resultsDir = "etc/clients/results" // a file for each suite
	reportFile = "etc/clients/README.md"
)

// known reads what fails and why: a client, a test, and after a tab the reason.
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

func (r result) key() string { return r.client + " " + r.name }

// keep writes down the results of a suite, a line for each: what became of it, what it
// is about, and its name, between tabs. Of a suite that was not run as a whole, the
// other tests keep theirs.
func keep(s suite, results []result, whole bool) error {
	if !whole {
		before, err := s.kept()
		if err != nil {
			return err
		}
		results = merge(before, results)
	}
	sorted := slices.SortedStableFunc(slices.Values(results), func(a, b result) int { return strings.Compare(a.group, b.group) })
	var text strings.Builder
	for _, r := range sorted {
		fmt.Fprintf(&text, "%s\t%s\t%s\n", r.state, r.group, r.name)
	}
	if err := os.MkdirAll(resultsDir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(resultsDir, s.name()), []byte(text.String()), 0o644)
}

// merge puts the results of tests that were run again in the place of those before. A
// class that could not be set up has been, once one of its tests has a result.
func merge(before, again []result) []result {
	ran := map[string]bool{}
	for _, r := range again {
		ran[r.key()] = true
		if i := strings.LastIndex(r.name, "."); i >= 0 {
			ran[r.client+" setUpClass ("+r.name[:i]+")"] = true
		}
	}
	rest := slices.DeleteFunc(slices.Clone(before), func(r result) bool { return ran[r.key()] })
	return append(rest, again...)
}

// kept reads the results of a suite; there may be none.
func (s suite) kept() ([]result, error) {
	data, err := os.ReadFile(filepath.Join(resultsDir, s.name()))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []result
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 3)
		if len(parts) != 3 {
			return nil, fmt.Errorf("%s of %s: %q is no result", resultsDir, s.name(), line)
		}
		all = append(all, result{client: s.client, state: state(parts[0]), group: parts[1], name: parts[2]})
	}
	return all, nil
}

// kept reads the results of all suites.
func kept() ([]result, error) {
	var all []result
	for _, s := range suites {
		some, err := s.kept()
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// conclude holds results against what is known, and writes the tables anew.
func conclude(results []result) error {
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
	errs := []error{writeReport(reasons)}
	if len(unknown) > 0 {
		errs = append(errs, fmt.Errorf("failed, and %s does not know why:\n\t%s", knownFile, strings.Join(unknown, "\n\t")))
	}
	if len(mended) > 0 {
		errs = append(errs, fmt.Errorf("passed, though %s has them:\n\t%s", knownFile, strings.Join(mended, "\n\t")))
	}
	return errors.Join(errs...)
}

// printTable counts results by client and group.
func printTable(w io.Writer, results []result) error {
	counts := map[string]map[state]int{}
	var order []string
	for _, r := range results {
		for _, key := range []string{r.client + " | " + r.group, r.client + " | **all**"} {
			if counts[key] == nil {
				counts[key] = map[state]int{}
				order = append(order, key)
			}
			counts[key][r.state]++
		}
	}
	slices.Sort(order)
	text := "| client | tests of | pass | fail | skipped |\n|---|---|--:|--:|--:|\n"
	for _, key := range order {
		text += fmt.Sprintf("| %s | %d | %d | %d |\n", key, counts[key][passed], counts[key][failed], counts[key][skipped])
	}
	_, err := io.WriteString(w, text)
	return err
}

// writeReport writes the tables of all that was kept, and what fails and why.
func writeReport(reasons map[string]string) error {
	results, err := kept()
	if err != nil {
		return err
	}
	f, err := os.Create(reportFile)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	fmt.Fprint(f, "# What OpenStack's clients can do\n\nWritten by `make test-clients`, which runs them against slipwayd with real guests. Skipped is what a\n"+
		"client leaves out by itself, mostly for services that are not here. `results` has every test.\n\n")
	if err := printTable(f, results); err != nil {
		return err
	}
	fmt.Fprint(f, "\n## What fails\n\n| client | test | reason |\n|---|---|---|\n")
	for _, r := range results {
		if r.state == failed {
			fmt.Fprintf(f, "| %s | `%s` | %s |\n", r.client, r.name, reasons[r.key()])
		}
	}
	return f.Close()
}
