package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// runAPI measures the network service with a thousand servers, used by one client and
// by two hundred. It is a Go benchmark of cmd/slipwayd, which knows how a service is
// wired: the one thing that is not real there are the guests.
func runAPI(ctx context.Context) error {
	progress("the API with 1,000 servers: one client, and 200")
	cmd := exec.CommandContext(ctx, "go", "test", "-tags", "isal", "-count", "1", "-timeout", "20m",
		"-run", "^$", "-bench", "^BenchmarkManyClients$", "-benchtime", "1x", "./cmd/slipwayd")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", cmd, err)
	}
	return nil
}
