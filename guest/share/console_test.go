package share

import "testing"

func TestConsoleEnd(t *testing.T) {
	for line, want := range map[string]int{
		ConsolePrefix + ConsoleEndLine(3) + "\n":                       3,
		"no newline" + ConsolePrefix + ConsoleEndLine(0) + "\n":        0,
		ConsolePrefix + "the entrypoint has ended with status \n":      -1,
		"the entrypoint has ended with status 3\n":                     -1,
		ConsolePrefix + "the power button was pressed\n":               -1,
		ConsolePrefix + "the entrypoint has ended with status 3, no\n": -1,
	} {
		got, ok := ConsoleEnd(line)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, want %d", line, got, want)
		}
	}
}
