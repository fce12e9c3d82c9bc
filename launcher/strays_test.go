package launcher_test

import (
	"bufio"
	"os/exec"
	"path/filepath"
	"testing"
)

const unknownID = "6545d52e-cf99-4435-ae70-6aa002dc5e94"

// daemon starts a program that looks like virtiofsd for a directory, and returns a
// channel that is closed at its end.
func daemon(t *testing.T, dir string) <-chan struct{} {
	t.Helper()
	cmd := exec.Command("sh")
	cmd.Args = []string{"virtiofsd", "-c", "echo; read x", "-", "source=" + filepath.Join(dir, "share")}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close() })
	out := bufio.NewReader(stdout)
	if _, err := out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	return ended
}

func TestProcessesWithoutADomainAreEnded(t *testing.T) {
	b := newBench(t)
	stray := daemon(t, filepath.Join(b.dir, "servers", unknownID))
	others := daemon(t, filepath.Join(t.TempDir(), "servers", unknownID))
	b.reopen()
	<-stray
	select {
	case <-others:
		t.Error("the process of another state directory was ended")
	default:
	}
}
