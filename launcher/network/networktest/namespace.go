// Package networktest gives tests a host of their own.
package networktest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// inside is the name by which the test's program is called in its namespaces.
const inside = "inside"

// Main runs the tests in network and mount namespaces of their own, where setUp has made
// what they need: nothing of it is seen outside. It is what a TestMain does.
func Main(m *testing.M, setUp func() error) {
	if os.Args[0] == inside {
		if err := setUp(); err != nil {
			fmt.Fprintln(os.Stderr, "set up a host:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = inside
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "tests in namespaces, which need root:", err)
		os.Exit(1)
	}
}
