package host

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// ProcessesOf returns how much memory the processes of servers take, in bytes (PSS),
// by server and name of program ("qemu", "virtiofsd"). They are known by their
// arguments, which name the server's directory below dir.
func ProcessesOf(dir string) map[string]map[string]int64 {
	of := regexp.MustCompile(regexp.QuoteMeta(dir) + "/([0-9a-f-]{36})/")
	all := map[string]map[string]int64{}
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is good
	for _, path := range paths {
		args, err := os.ReadFile(path)
		server := of.FindSubmatch(args)
		if err != nil || server == nil {
			continue // it has ended, or is somebody else's
		}
		program, _, _ := bytes.Cut(args, []byte{0})
		name := filepath.Base(string(program))
		if strings.HasPrefix(name, "qemu-system-") {
			name = "qemu"
		}
		n, err := pss(filepath.Dir(path))
		if err != nil {
			continue
		}
		id := string(server[1])
		if all[id] == nil {
			all[id] = map[string]int64{}
		}
		all[id][name] += n
	}
	return all
}

// pss reads a process's proportional set size, in bytes.
func pss(proc string) (int64, error) {
	data, err := os.ReadFile(filepath.Join(proc, "smaps_rollup"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if kb, ok := strings.CutPrefix(line, "Pss:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, os.ErrNotExist
}
