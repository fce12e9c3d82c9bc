// Package archtest holds the tests that are about the repository as a whole: in
// which direction packages import one another, that each package says what it is
// for, and what may lie at the top level. It has no code of its own.
//
// The same import rules stand in .golangci.yml, where an editor shows a breach as
// it is typed; these tests also see files behind build tags, and what the linter
// cannot express.
package archtest
